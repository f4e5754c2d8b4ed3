"""The treasury agent of the test in Python, line for line what `examples/src/bin/polyglot` is in Rust.

    agent.py SERVER[,SERVER] RUN LEDGER KIND

`TAPE_KILL=n` kills the process at its n-th point: after each answer to a command, and after each act of the upstream.
`TAPE_LOSE=n` loses the answer of the n-th command. Prints a line of JSON: how the run ended.
"""

import fcntl, json, os, signal, sys

import tape_driver as tape
from tape_entries import canonical
from tape.v1 import names_pb2

INPUT = {"day": 3, "ceiling": 9007199254740993, "rate": 1.0825, "desks": ["Ä/1", "b\"2\\"],
         "nested": {"z": [], "a": {"ﬁ": None, "😀": True}}}
HARD = {"model": "m-1", "temperature": 0.1 + 0.2,
        "floats": [1.0, -0.0, 1e15, 1e16, 1e21, 0.0001, 0.00001, -0.000012345, 0.000001, 5e-324, 1.7976931348623157e308, 123456789.125],
        "ints": [18446744073709551615, -9223372036854775808, 9007199254740993, 0],
        "text": "Zahl \"Ännchen\"\n\t\r\b\f\u0001\u001f\u007f\u2028 😀 / \\ é", "ﬁ": 1, "😀": 2, "long": "é" * 200,
        "messages": [{"role": "user", "b": {"z": {"y": [[], {}, None, True]}, "a": ""}}, "pay", ["last", 1.5]]}


class Points:
    """Counts the points of the process, and kills it or loses an answer at one of them."""
    def __init__(self):
        self.passed, self.answers = 0, 0
        self.kill, self.lose = (int(os.environ.get(name, 0)) for name in ("TAPE_KILL", "TAPE_LOSE"))
        self.only = os.environ.get("TAPE_KILL_ONLY")

    def pass_one(self, point, what):
        if what == "renew_lease":
            return False
        self.answers += point == "answered"
        self.passed += self.only in (None, point)
        if self.passed == self.kill and self.only in (None, point):
            os.kill(os.getpid(), signal.SIGKILL)
        return point == "answered" and self.answers == self.lose


class Bank:
    """The upstream: a file of acts. It honours keys, and writes down that it was asked again."""
    def __init__(self, path, points):
        self.path, self.points = path, points

    def act(self, operation, args, key, spent=None):
        with open(self.path, "a+", encoding="utf-8") as ledger:
            fcntl.flock(ledger, fcntl.LOCK_EX)
            ledger.seek(0)
            acts = [json.loads(line) for line in ledger]
            found = [n for n, act in enumerate(acts) if act["key"] == key]
            ledger.write(canonical({"again": bool(found), "args": args, "key": key, "operation": operation}) + "\n")
            ledger.flush()
        self.points.pass_one("acted", operation)
        return {"done": operation}, spent


def branch(name, bank):
    def of(scope):
        chosen = scope.decide({"branch": name, "rate": 1e-7}, lambda: {"response": {"take": [name, 2.50]}})
        args = {"branch": name, "take": chosen.response["take"]}
        receipt = scope.effect(chosen, "bank", "book", args, lambda key: bank.act("book-" + name, args, key))
        scope.checkpoint("booked", {"receipt": receipt})
        return receipt
    return of


def treasury(run, bank):
    told, given, invoice = {}, run.input(), "invoice*7 " + run.run.name.invocation
    run.budget("day", 9007199254740991)
    run.budget("desk", 100000, parent="day")
    rate = run.sample("rate", lambda: 0.0000125)
    taken = {"now": run.now(), "random": run.random(), "uuid": run.uuid()}
    run.checkpoint("sampled", {"rate": rate, **taken})

    answer = {"response": {"pay": [1.10, 2], "to": "Ännchen"}, "model": "m-1", "rationale": "sie ist dran", "policy_version": "p/2",
              "usage": {"input_tokens": 12, "output_tokens": 3, "cost_micro_usd": 9007199254740991}, "spent": [("desk", 12)]}
    plan = run.decide({**HARD, "input": given, "rate": rate}, lambda: answer, reserve=[("desk", 50)])
    pay = {"amount": plan.response["pay"][0], "to": plan.response["to"], "rate": rate}
    told["paid"] = run.effect(plan, "bank", "transfer", pay, lambda key: bank.act("transfer", pay, key, [("desk", 15)]),
                              business_key=invoice, undo=("reverse", {"to": "Ännchen", "why": None}),
                              reserve=[("desk", 20)], policy={"attempts_max": 3, "backoff_ms": 1})
    told["balance"] = run.effect(plan, "bank", "balance", {"of": 1e16}, lambda key: ({"balance": -0.5}, None), semantics="read_only")

    def declined(key):
        raise tape.Attempt("failed", {"error": "über dem Limit", "detail": tape.payload({"limit": 1.0})})
    try:
        run.effect(plan, "bank", "transfer", {"amount": 1e9}, declined)
    except tape.EffectFailed as failed:
        told["declined"] = list(failed.args)
    told["mailed"] = run.effect(plan, "mail", "send", {"text": "bezahlt ✓"}, semantics="non_idempotent")

    try:
        run.decide({"ask": "a lot"}, lambda: {"response": None}, reserve=[("desk", 10_000_000)])
    except tape.Refused as refused:
        told["over"] = [refused.metadata["budget"], int(refused.metadata["left"]), int(refused.metadata["asked"])]
    small = run.decide({"ask": "a little", "told": told["over"]}, lambda: {"response": [1, 2]}, reserve=[("desk", 5)])
    try:
        run.effect(small, "bank", "transfer", pay, lambda key: bank.act("twice", pay, key), business_key=invoice)
    except tape.Refused as refused:
        told["taken"] = refused.metadata["effect"]
    told["fee"] = run.effect(small, "bank", "fee", {"fee": 5}, lambda key: bank.act("fee", {"fee": 5}, key))

    planner = run.scope("planner")
    told["hint"] = planner.sample("hint", lambda: "größer")
    thought = planner.decide([told["hint"], 1, 2.0], lambda: {"response": "ja"})
    told["thought"] = planner.effect(thought, "bank", "note", "ja", lambda key: bank.act("note", "ja", key))
    told["branches"] = run.scope("branch").parallel({name: branch(name, bank) for name in ("a", "b")})

    told["approved"] = list(run.gate("approve"))
    told["veto"] = run.gate("veto", {"in_ms": 1})[0]
    run.timer("settle", {"in_ms": 1}, "später")
    told["patched"] = run.patched("rounding")
    for n in range(2):
        ask = {"n": n, "share": n / 3, "of": 10 ** (n + 14) / 7}
        again = run.decide(ask, lambda: {"response": n * 0.1})
        told[f"share {n}"] = run.effect(again, "bank", "share", ask, lambda key: bank.act(f"share-{n}", ask, key))
    run.complete(told)


def waits(run, bank):
    """Pays, and waits at a gate until it is answered, or the run is to be cancelled."""
    plan = run.decide("pay" if not os.environ.get("TAPE_DRIFT") else "pay twice", lambda: {"response": 1})
    run.effect(plan, "bank", "transfer", {"n": 1}, lambda key: bank.act("transfer", {"n": 1}, key), undo=("reverse", {"n": 1}))
    print("waiting", flush=True)
    try:
        run.complete(run.gate("approve")[1])
    except tape.Cancelled:
        run.accept_cancel()


def fails(run, bank):
    plan = run.decide("pay", lambda: {"response": 1})
    run.effect(plan, "bank", "transfer", {"n": 2}, lambda key: bank.act("transfer", {"n": 2}, key), undo=("reverse", {"n": 2}))
    run.fail("das ging schief")


def main():
    servers, invocation, ledger, kind = sys.argv[1:]
    points = Points()
    client = tape.Tape(servers.split(","), f"python-{os.getpid()}", hook=points.pass_one)
    name = names_pb2.RunId(tenant="acme", app="treasury", user="ann", session="s/1 é", invocation=invocation)
    try:
        lease_ms = int(os.environ.get("TAPE_LEASE_MS", 10_000))
        run = tape.Run.begin(client, name, input=INPUT, labels={"desk": "fx *é"}, lease_ms=lease_ms,
                             adopt_epoch=int(os.environ["TAPE_ADOPT"]) if "TAPE_ADOPT" in os.environ else None)
        {"treasury": treasury, "waits": waits, "fails": fails}[kind](run, Bank(ledger, points))
        told = {"driven": True}
    except tape.NotDriven as ended:
        how, journal = ended.args
        told = {"driven": False, "how": journal.ended or how, "output": journal.value(journal.output) if journal.output else None}
    except (tape.Fenced, tape.Drift) as error:
        told = {"stopped": type(error).__name__, "error": str(error)}
    print(canonical({**told, "points": points.passed}), flush=True)


main()
