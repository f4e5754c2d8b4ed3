"""Signs the text of a checkpoint as it is, with OpenSSL: sign.py PRIVATE-KEY TEXT NOTE."""

import base64, subprocess, sys

key, text, note = sys.argv[1:4]
_, _, name, key_id, seed = open(key).read().strip().split("+", 4)
# The key in DER: an Ed25519 key, then its 32 bytes.
der = bytes.fromhex("302e020100300506032b657004220420") + base64.b64decode(seed)[1:]
open(note + ".der", "wb").write(der)
openssl = ["openssl", "pkeyutl", "-sign", "-rawin", "-keyform", "DER", "-inkey", note + ".der", "-in", text]
signature = bytes.fromhex(key_id) + subprocess.run(openssl, check=True, capture_output=True).stdout
line = f"\n\u2014 {name} {base64.b64encode(signature).decode()}\n"
open(note, "wb").write(open(text, "rb").read() + line.encode())
