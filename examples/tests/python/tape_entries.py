"""Entries of runs, by docs/format.md: canonical JSON, fingerprints and keys, and a journal that is folded as docs/clients.md says."""
import collections, hashlib, json

REFUSED = "tape.refused"
# All kinds of a run's entries, with their payloads in order. An entry of another kind is of a newer build.
KINDS = dict.fromkeys("""run.suspended run.cancel_requested run.compensating run.stuck run.retried run.failed run.cancelled lease.acquired
    lease.renewed lease.released effect.started effect.claim_renewed effect.deferred effect.unknown effect.observing effect.observed
    effect.resend_allowed obligation.started obligation.claim_renewed obligation.deferred obligation.stuck obligation.retried gate.opened
    timer.fired timer.cancelled budget.opened budget.reserved budget.released payload.erased payload.erasure_finished""".split(), ())
KINDS |= {"run.begun": ("input",), "run.checkpoint": ("state",), "run.completed": ("output",), "run.retired": ("output",),
          "decision.recorded": ("response", "rationale"), "effect.begun": ("spec.args", "spec.undo.args"), "timer.set": ("note",),
          "effect.confirmed": ("result", "undo.args"), "effect.failed": ("detail",), "obligation.armed": ("args",),
          "obligation.done": ("result",), "gate.answered": ("answer",), "signal.received": ("answer",), "sample.recorded": ("value",)}
WENT_ON = set("""decision.recorded effect.begun budget.reserved sample.recorded budget.opened gate.opened timer.set timer.cancelled
    run.checkpoint""".split())

class Unreadable(Exception): "An entry is of a newer build or out of order, or its bytes were erased and are needed."

def canonical(value):
    """The canonical JSON text of a value, with the letters that Tape's own client writes."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{canonical(name)}:{canonical(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(canonical, value)) + "]"
    if not isinstance(value, float):
        return json.dumps(value, ensure_ascii=False)
    digits, _, exponent = json.dumps(value, allow_nan=False).partition("e")
    if exponent == "-05":  # Python writes an exponent below 1e-4, Tape's client below 1e-5.
        return ("-" if value < 0 else "") + "0.0000" + digits.lstrip("-").replace(".", "")
    return digits + (f"e{exponent[0]}{exponent[1:].lstrip('0')}" if exponent else "")

def sha(data): return hashlib.sha256(data.encode() if isinstance(data, str) else data)
def cut(text): return text.encode()[:160].decode(errors="ignore")
def content_digest(form): return sha(json.dumps(form, ensure_ascii=False, separators=(",", ":"))).hexdigest()[:32]
def within(inner, outer): return outer == "" or inner == outer or inner.startswith(outer + "/")
def fingerprint(request):
    """What a model is asked, in the form of entries: the digest of all of it, and its parts for people."""
    parts = []
    def part(name, text, preview=True):
        parts.append({"name": cut(name), "digest": sha(text).hexdigest()[:8]} | ({"preview": cut(text)} if preview and text else {}))
    for name, value in sorted(request.items()) if isinstance(request, dict) else [("request", request)]:
        if isinstance(value, (list, tuple)) and value:
            *first, last = map(canonical, value)
            if first:
                part(f"{name}[0..{len(first)}]", "\n".join(first), False)
            part(f"{name}[{len(first)}]", last)
        else:
            part(name, canonical(value))
    return {"digest": sha(canonical(request)).hexdigest()} | ({"parts": parts[:32]} if parts else {})

def effect_key(run, effect):
    names = ["".join(f"%{ord(c):02X}" if c in "%/.*> " else c for c in part)
             for part in (run.tenant, run.app, run.user, run.session, run.invocation)]
    return "tape-" + sha("tape effect key 1\n" + "/".join([names[0], "run", *names[1:]]) + "\n" + effect).hexdigest()[:35]

class Journal:
    """The entries of a run, folded. `recorded` has by key what an agent may ask for again: scope, what is compared, payload."""
    def __init__(self):
        self.seq, self.epoch, self.recorded, self.samples = 0, 0, {}, collections.defaultdict(list)
        self.effects, self.settled, self.gates, self.signals, self.refusals = {}, {}, {}, {}, []
        self.fired, self.erased, self.held = set(), set(), set()
        self.input = self.output = self.cancel = self.ended = self.begun = self.labels = None
    def fold(self, entry):
        envelope, rest, kept = json.loads(entry.envelope), entry.payload, {}
        kind, body = envelope["entry"]["kind"], envelope["entry"]["body"]
        if envelope["v"] not in (1, 2) or kind not in KINDS or entry.seq != self.seq + 1 and (self.seq or kind != "run.retired"):
            raise Unreadable(f"entry {entry.seq}, {kind} of version {envelope['v']}, after {self.seq}")
        for path in KINDS[kind]:
            found = body
            for name in path.split("."):
                found = found and found.get(name)
            if found:
                kept[path] = (entry.seq, None if entry.payload_erased else rest[:found["len"]])
                rest = rest[found["len"]:]
        words = json.loads(rest) if "words" in envelope and not entry.payload_erased else [None]
        self.apply(entry.seq, kind, body, kept, words[0])
        self.seq = entry.seq
    def apply(self, seq, kind, body, kept, word):
        name, effect = kind.partition(".")[2], body.get("effect")
        scope = (body.get("position") or effect).rpartition("#")[0] if "position" in body or effect else body.get("scope", "")
        match kind:
            case "run.begun": self.input, self.begun, self.labels = kept["input"], body["input"], word or body.get("labels", {})
            case "run.completed" | "run.failed" | "run.cancelled" | "run.retired":
                self.ended, self.output = body.get("ending", {}).get("how", name), kept.get("output", self.output)
            case "run.cancel_requested": self.cancel = word or body["reason"] or "(erased)"
            case "run.checkpoint":
                number = sum(key[:3] == ("checkpoint", scope, body["label"]) for key in self.recorded)
                self.recorded["checkpoint", scope, body["label"], number] = scope, body["state"], kept["state"]
            case "lease.acquired": self.epoch, self.refusals = body["epoch"], [refusal for refusal in self.refusals if refusal[0]]
            case "decision.recorded":
                self.held.discard(body["position"])
                self.recorded["decision", body["position"]] = scope, body["fingerprint"]["digest"], kept["response"]
            case "budget.reserved": self.held.add(body["position"])
            case "budget.released": self.held.discard(body["position"])
            case "effect.begun":
                self.recorded["effect", effect] = scope, body["spec"], None
                self.effects[effect] = ("started" if body["spec"]["mode"] == "inline" else "pending"), 0
            case "effect.started" | "effect.unknown": self.effects[effect] = name, 0
            case "effect.deferred" | "effect.resend_allowed": self.effects[effect] = "pending", body.get("next_at", 0)
            case "effect.observed" if body["then"]["do"] == "resend": self.effects[effect] = "pending", body["then"]["at"]
            case "effect.observed" if body["then"]["do"] == "stuck": self.effects[effect] = "stuck", 0
            case "effect.confirmed": self.settled[effect] = kept["result"], None
            case "effect.failed": self.settled[effect] = kept.get("detail"), word or body["error"] or "(erased)"
            case "gate.opened": self.recorded["gate", body["gate"]] = scope, (body.get("asked"), body.get("deadline")), None
            case "gate.answered":
                received = body["by"].get("received")
                self.gates[body["gate"]] = body["by"], self.signals[received] if received else kept["answer"]
            case "signal.received": self.signals[seq] = kept["answer"]
            case "timer.set": self.recorded["timer", body["timer"]] = scope, (body.get("asked"), body["note"]), body["due_at"]
            case "timer.fired": self.fired.add(body["timer"])
            case "timer.cancelled":
                self.fired.add(body["timer"])
                scope = self.recorded["timer", body["timer"]][0]
                self.recorded["cancelled", body["timer"]] = scope, None, None
            case "budget.opened":
                self.recorded["budget", body["budget"]] = scope, (body["limit"], body["currency"], body.get("parent")), None
            case "sample.recorded":
                if not body["name"].startswith("tape."):
                    self.recorded["sample", scope, body["n"]] = scope, body["name"], kept["value"]
                self.samples[scope].append((body["name"], kept["value"]))
            case "payload.erased": self.erased.update(body["entries"])
        for refusal in self.refusals if kind in WENT_ON else ():
            refusal[0] = refusal[0] or within(scope, refusal[1]["scope"]) or within(refusal[1]["scope"], scope)
        if kind == "sample.recorded" and body["name"] == REFUSED and kept["value"][1] is not None:
            self.refusals.append([False, json.loads(kept["value"][1])])
    def value(self, kept):
        if kept[1] is None or kept[0] in self.erased:
            raise Unreadable(f"the bytes of entry {kept[0]} are erased")
        return json.loads(kept[1] or b"null")
