"""Drives runs over a Tape server: written from docs/clients.md, docs/format.md and the .proto files alone, without Tape's own client.

`Run.begin` gives the root `Scope` of a run, which is what an agent asks; a scope is for one thread at a time. Each command is answered from
the journal once the entries up to its answer are folded. Deadlines are `{"at": microseconds}` or `{"in_ms": milliseconds}`.
"""
import collections, queue, secrets, threading, time, types, uuid
from concurrent.futures import Future, ThreadPoolExecutor, TimeoutError as Late
from urllib.parse import unquote
import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from tape.v1 import drive_pb2, effect_pb2, names_pb2, parts_pb2, run_pb2, run_pb2_grpc, server_pb2, server_pb2_grpc, work_pb2, work_pb2_grpc
from tape_entries import REFUSED, Journal, Unreadable, canonical, content_digest, effect_key, fingerprint, sha, within

JSON, PATCHED = "application/json", "tape.patched."
POLICY = {"attempts_max": 10, "observations_max": 10, "backoff_ms": 500, "backoff_max_ms": 60000, "resend_absent": False}
AGAIN = set("UNAVAILABLE DRAINING OUTCOME_UNKNOWN CONTENDED OVERLOADED DEADLINE DEADLINE_EXCEEDED CANCELLED SLOW_READER".split())
TOLD = {"BUDGET_EXHAUSTED": ("budget", "left", "asked"), "BUSINESS_KEY_TAKEN": ("connector", "key", "run", "effect", "status", "settled")}

class Fenced(Exception): "Another driver has the run: the agent must stop."
class Drift(Exception): "The agent asks something else than its journal has: it must stop."
class Cancelled(Exception): "The run is asked to end: the agent should call `accept_cancel`."
class NotDriven(Exception): "The run has ended, is compensating or is stuck: how, and its journal."
class Lost(Exception): "The connection is gone."
class EffectFailed(Exception): "The effect did not happen and will not: the error, and what the upstream answered."
class Attempt(Exception): "Raised by a call of an upstream: a member of `AttemptOutcome` by name, and its fields."
class Refused(Exception):
    """The journal refuses a command: `reason` and `metadata` say why (error.proto)."""
    def __init__(self, reason, message, metadata):
        super().__init__(f"{reason}: {message} {dict(metadata)}")
        self.reason, self.metadata = reason, dict(metadata)

def refusal_of(error):
    for detail in getattr(rpc_status.from_call(error), "details", ()):
        if detail.Unpack(info := error_details_pb2.ErrorInfo()):
            return Refused(info.reason, error.details(), info.metadata)
    return Refused(error.code().name, error.details(), {})

def payload(value): return parts_pb2.Payload(content_type=JSON, data=canonical(value).encode())
def reference(data): return {"type": data.content_type, "len": len(data.data), "sha256": sha(data.data).hexdigest()}
def deadline(asked): return asked and parts_pb2.Deadline(**{{"at": "at_us"}.get(name, name): time for name, time in asked.items()})
def spends(amounts): return [parts_pb2.Spend(budget=budget, amount=amount) for budget, amount in amounts]
def request_id():
    """A UUID of version 7."""
    bits = time.time_ns() // 1_000_000 << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62)
    return bits.to_bytes(16, "big")

class Link:
    """One connection: its Drive stream, and the commands that wait for answers on it."""
    def __init__(self, address, tape):
        self.channel, self.waiting, self.calls, self.lost = grpc.insecure_channel(address), {}, 0, False
        self.runs, self.work = run_pb2_grpc.RunServiceStub(self.channel), work_pb2_grpc.WorkServiceStub(self.channel)
        contract, entries = server_pb2.VersionRange(first=1, last=1), server_pb2.VersionRange(first=1, last=2)
        hello = server_pb2.NegotiateRequest(client="tape-python/0.1.0", contract=contract, entries=entries)
        server_pb2_grpc.ServerServiceStub(self.channel).Negotiate(hello, timeout=5)
        self.requests, self.lock, self.tape = queue.SimpleQueue(), threading.Lock(), tape
        threading.Thread(target=self.read, args=[self.runs.Drive(iter(self.requests.get, None))], daemon=True).start()
    def read(self, answers):
        try:
            for answer in answers:
                self.waiting.pop(answer.call).set_result(answer)
        except (grpc.RpcError, ValueError):
            pass
        self.close()
    def close(self):
        with self.lock:
            self.lost, waiting, self.waiting = True, self.waiting, {}
        for answer in waiting.values():
            answer.set_exception(Lost())
        self.requests.put(None)
        self.channel.close()
        with self.tape.lost:
            self.tape.losses += 1
            self.tape.lost.notify_all()
        return Lost()
    def call(self, request):
        with self.lock:
            if self.lost:
                raise Lost()
            self.calls += 1
            request.call, answer = self.calls, Future()
            self.waiting[self.calls] = answer
        self.requests.put(request)
        return answer.result(timeout=30)

class Tape:
    """A client of the servers at these addresses. `hook(point, what)` is called around commands; true loses the answer."""
    def __init__(self, addresses, holder, principal=None, hook=lambda point, what: False):
        self.addresses, self.holder, self.principal, self.hook = collections.deque(addresses), holder, principal, hook
        self.current, self.lock, self.lost, self.losses = None, threading.RLock(), threading.Condition(), 0
    def link(self):
        with self.lock:
            while self.current is None or self.current.lost:
                try:
                    self.current = Link(self.addresses[0], self)
                except grpc.RpcError as error:
                    if refusal_of(error).reason not in AGAIN:
                        raise refusal_of(error)
                    self.addresses.rotate(1)
                    time.sleep(0.05)
            return self.current
    def repeated(self, call, request):
        """Sends a request until it is answered, under the same request id."""
        request.context.CopyFrom(parts_pb2.RequestContext(request_id=request_id(), principal=self.principal))
        for n in range(1000):
            try:
                return call(self.link())
            except (Lost, Late):
                pass
            except Refused as refusal:
                if refusal.reason not in AGAIN:
                    raise
                if refusal.reason == "DRAINING":
                    self.current.close()
            time.sleep(min(0.02 * 2 ** min(n, 6), 1))
        raise Lost("no server answers")
    def drive(self, name, request):
        def call(link):
            answer = link.call(request)
            if self.hook("answered", name):
                raise link.close()
            if answer.HasField("error"):
                raise Refused(answer.error.reason, answer.error.message, answer.error.metadata)
            return answer.reply
        return self.repeated(call, request)
    def unary(self, service, method, request):
        """A call beside the Drive stream, such as `SignalRun`."""
        def call(link):
            try:
                return getattr(getattr(link, service), method)(request, timeout=30)
            except (grpc.RpcError, ValueError) as error:  # ValueError: the channel was closed meanwhile.
                raise refusal_of(error) if isinstance(error, grpc.RpcError) else Lost()
        return self.repeated(call, request)

class Run:
    """One drive of a run: its lease, its journal as it grows, and what was asked for in this drive."""
    @staticmethod
    def begin(tape, name, input=None, labels=(), lease_ms=10_000, adopt_epoch=None, patience=30):
        """Begins or takes up the run, once the lease of a driver that is gone is over: its root scope."""
        begin = drive_pb2.DriveRequest.BeginRun(holder=tape.holder, lease_ms=lease_ms, adopt_epoch=adopt_epoch)
        if input is not None:
            begin.create.CopyFrom(drive_pb2.DriveRequest.BeginRun.Create(labels=dict(labels), input=payload(input)))
        until = time.monotonic() + patience
        while True:
            try:
                run = Run(tape, name, tape.drive("begin_run", drive_pb2.DriveRequest(run=name, begin_run=begin)), lease_ms)
                return Scope(run, "").began_with(input, dict(labels))
            except Refused as refusal:
                if refusal.reason != "LEASE_HELD" or time.monotonic() > until:
                    raise
                time.sleep(0.02)
    def __init__(self, tape, name, reply, lease_ms):
        self.tape, self.name, self.epoch, self.lease_ms = tape, name, reply.leased.epoch, lease_ms
        self.journal, self.changed, self.stop, self.losses = Journal(), threading.Condition(), None, tape.losses
        self.asked, self.entered, self.told, self.refusing = set(), set(), collections.defaultdict(list), threading.Lock()
        threading.Thread(target=self.follow, daemon=True).start()
        self.until(lambda journal: journal.seq >= reply.seq)
        if reply.WhichOneof("result") != "leased":
            raise self.halt(NotDriven(reply.WhichOneof("result"), self.journal))
        for _, told in self.journal.refusals:
            self.told[told["scope"], told["at"], told["of"]].append(told["refusal"])
        threading.Thread(target=self.renew, daemon=True).start()
    def follow(self):
        while not self.stop:
            link = self.tape.link()
            try:
                request = run_pb2.ReadRunRequest(run=self.name, after_seq=self.journal.seq, follow=True)
                for page in link.runs.ReadRun(request):
                    with self.changed:
                        for entry in page.entries:
                            self.journal.fold(entry)
                        self.changed.notify_all()
                    if self.journal.epoch > self.epoch > 0:
                        self.halt(Fenced(f"epoch {self.journal.epoch} has the run, not {self.epoch}"))
            except Exception as error:
                told = refusal_of(error) if isinstance(error, grpc.RpcError) else error
                if not link.lost and getattr(told, "reason", None) not in AGAIN:
                    self.halt(told)
    def renew(self):
        """Keeps the lease: at a third of its length, and at once on a new connection where the old one is gone."""
        while not self.stop:
            with self.tape.lost:
                self.tape.lost.wait_for(lambda: self.losses != self.tape.losses, self.lease_ms / 3000)
                self.losses = self.tape.losses
            try:
                self.stop or self.command("renew_lease", lease_ms=self.lease_ms)
            except (Refused, Fenced, Cancelled, NotDriven):
                return
    def halt(self, error):
        with self.changed:
            self.stop = self.stop or error
            self.changed.notify_all()
        return error
    def until(self, test, timeout=None, cancel=False):
        """Waits until the journal is as `test` says; false where the time is over before."""
        with self.changed:
            self.changed.wait_for(lambda: self.stop or test(self.journal) or cancel and self.journal.cancel, timeout)
            if not test(self.journal) and (self.stop or cancel and self.journal.cancel):
                raise self.stop or Cancelled(self.journal.cancel)
            return test(self.journal)
    def command(self, command, **fields):
        try:
            reply = self.tape.drive(command, drive_pb2.DriveRequest(run=self.name, epoch=self.epoch, **{command: fields}))
        except Refused as refusal:
            if refusal.reason == "FENCED":
                raise self.halt(Fenced(str(refusal)))
            raise Cancelled(str(refusal)) if "CANCELLING" in refusal.metadata.get("phase", "").upper() else refusal
        self.until(lambda journal: journal.seq >= reply.seq)
        return reply

class Scope:
    """What an agent asks, at one path of scopes."""
    def __init__(self, run, path):
        self.run, self.path, self.k, self.n, self.labels, self.patches = run, path, 0, 0, collections.Counter(), {}
    def scope(self, name): return Scope(self.run, f"{self.path}/{name}" if self.path else name)
    def input(self): return self.run.journal.value(self.run.journal.input)
    def began_with(self, input, labels):
        recorded, told = self.run.journal.begun, self.run.journal.labels
        erased = 1 in self.run.journal.erased
        if input is not None and recorded != reference(payload(input)) or not erased and labels.items() - told.items():
            raise self.run.halt(Drift(f"the run began with {recorded}, {told}"))
        return self
    def parallel(self, branches):
        """Runs functions of a scope side by side, each in the scope of its name."""
        with ThreadPoolExecutor(len(branches)) as pool:
            started = {name: pool.submit(branch, self.scope(name)) for name, branch in branches.items()}
        return {name: branch.result() for name, branch in started.items()}
    def left(self):
        """What the journal has here and the agent has not asked for; of scopes within, only those that it has not entered."""
        return [key for key, (scope, *_) in list(self.run.journal.recorded.items()) if key not in self.run.asked
                and (scope == self.path or within(scope, self.path) and scope not in self.run.entered)]
    def ask(self, key, asked, send, of=None, same=lambda recorded, asked: recorded == asked):
        """What is recorded under the key, after `send` had it recorded where it is new. Any difference is drift."""
        run = self.run
        told = run.told[self.path, f"{key[0]} {key[-1]}", content_digest(of)] if of else None
        if told:
            refusal = told.pop(0)
            raise Refused(refusal["why"].upper(), "as recorded", refusal)
        if key not in run.journal.recorded:
            if left := self.left():
                raise run.halt(Drift(f"{key} is asked for, and not yet what is recorded: {left}"))
            run.until(lambda journal: not journal.cancel, 0, cancel=True)
            run.asked.add(key)
            try:
                send()
            except Refused as refusal:
                if of and refusal.reason in TOLD:
                    self.remember(refusal, f"{key[0]} {key[-1]}", content_digest(of))
                raise
        run.asked.add(key)
        run.entered.update(self.path[:end] for end, c in enumerate(self.path + "/") if c == "/")
        _, recorded, kept = run.journal.recorded[key]
        if not same(recorded, asked):
            raise run.halt(Drift(f"{key}: recorded {recorded}, asked {asked}"))
        return recorded, kept
    def remember(self, refusal, at, of):
        """Records what the agent is told, so that the next drive is told the same."""
        told = {name: refusal.metadata.get(name) for name in TOLD[refusal.reason]}
        told |= {name: int(told[name]) for name in ("left", "asked", "settled") if told.get(name)}
        if "run" in told:
            tenant, _, *rest = map(unquote, told["run"].split("/"))
            told["run"] = dict(zip(("tenant", "app", "user", "session", "invocation"), (tenant, *rest)))
            told["status"] = told["status"] and told["status"].removeprefix("EFFECT_STATUS_").lower()
        value = payload({"scope": self.path, "at": at, "of": of, "refusal": {"why": refusal.reason.lower(), **told}})
        with self.run.refusing:
            self.run.command("record_sample", scope=REFUSED, n=len(self.run.journal.samples[REFUSED]), name=REFUSED, value=value)
    def decide(self, request, ask, reserve=()):
        """Asks the model once: `ask` returns the fields of `RecordDecision`, its payloads as JSON values."""
        decision = types.SimpleNamespace(place=names_pb2.Position(scope=self.path, k=self.k), name=f"{self.path}#{self.k}", calls=0)
        of, run = fingerprint(request), self.run
        def record():
            if reserve and decision.name not in run.journal.held:
                run.command("reserve_for_decision", position=decision.place, spends=spends(reserve))
            try:
                answer = ask()
            except Exception:
                if decision.name in run.journal.held:
                    run.command("release_reservation", position=decision.place)
                raise
            answer |= {name: payload(answer[name]) for name in ("response", "rationale") if name in answer}
            answer["spent"] = spends(answer.get("spent", ()))
            parts = [parts_pb2.FingerprintPart(**part) for part in of.get("parts", ())]
            asked = parts_pb2.Fingerprint(digest=bytes.fromhex(of["digest"]), parts=parts)
            run.command("record_decision", position=decision.place, fingerprint=asked, **answer)
        _, kept = self.ask(("decision", decision.name), of["digest"], record, {"digest": of["digest"]})
        self.k += 1
        decision.response = run.journal.value(kept)
        return decision
    def effect(self, decision, connector, operation, args, act=None, semantics="idempotent", business_key=None, undo=None, reserve=(),
               policy={}):
        """Inline where there is `act`, which is given the key and returns the result and what it spent, or raises `Attempt`."""
        name, policy = f"{decision.name}.{decision.calls}", POLICY | policy
        place, mode = names_pb2.EffectId(position=decision.place, call=decision.calls), "inline" if act else "outbox"
        decision.calls += 1
        form = {"connector": connector, "operation": operation, "semantics": semantics, "mode": mode, "args": reference(payload(args))}
        spec = effect_pb2.EffectSpec(connector=connector, operation=operation, semantics="SEMANTICS_" + semantics.upper(),
                                     mode="MODE_" + mode.upper(), args=payload(args), business_key=business_key, reserve=spends(reserve))
        form |= {"business_key": business_key} if business_key is not None else {}
        if undo:
            form["undo"] = {"operation": undo[0], "args": reference(payload(undo[1]))}
            spec.undo.CopyFrom(effect_pb2.Undo(operation=undo[0], args=payload(undo[1])))
        form |= {"reserve": [{"budget": budget, "amount": amount} for budget, amount in reserve]} if reserve else {}
        if policy != POLICY:
            form["policy"] = policy
            spec.policy.CopyFrom(effect_pb2.EffectPolicy(**policy))
        attempts = []
        begin = lambda: attempts.append(self.run.command("begin_effect", effect=place, spec=spec).effect.attempt)
        self.ask(("effect", name), form, begin, form)
        kept, error = self.settled(name, place, act, policy, attempts)
        if error is not None:
            raise EffectFailed(error, self.run.journal.value(kept) if kept else None)
        return self.run.journal.value(kept)
    def settled(self, name, place, act, policy, attempts):
        """Waits until an effect is settled, and calls the upstream in the attempts that are the driver's."""
        run, calls, wait = self.run, 0, policy["backoff_ms"] / 1000
        while name not in run.journal.settled:
            state = run.journal.effects[name]
            if not act or state[0] == "stuck":
                run.until(lambda journal: name in journal.settled or journal.effects[name] != state, cancel=True)
                continue
            if not attempts:
                run.until(lambda journal: name in journal.settled, max(0, state[1] / 1e6 - time.time()))
                attempts.append(run.command("restart_effect", effect=place).effect.attempt)
            try:
                result, spent = act(effect_key(run.name, name))
                ending, how = {"result": payload(result)}, "confirmed"
                if spent is not None:
                    ending["spent"] = effect_pb2.AttemptOutcome.Spends(spends=spends(spent))
            except Attempt as attempt:
                how, ending = attempt.args
            run.command("finish_effect", effect=place, attempt=attempts.pop(), ending={how: ending})
            calls += how == "unknown"
            if calls >= policy["attempts_max"]:
                raise Unreadable(f"it is unknown whether effect {name} happened")
            run.until(lambda journal: name in journal.settled, how == "unknown" and min(wait * 2 ** calls, policy["backoff_max_ms"] / 1000))
        return run.journal.settled[name]
    def sample(self, name, take):
        samples = self.run.journal.samples[self.path]
        while self.n < len(samples) and samples[self.n][0].startswith(PATCHED):
            self.n += 1
        send = lambda: self.run.command("record_sample", scope=self.path, n=self.n, name=name, value=payload(take()))
        _, kept = self.ask(("sample", self.path, self.n), name, send)
        self.n += 1
        return self.run.journal.value(kept)
    def now(self): return self.sample("now", lambda: time.time_ns() // 1000)
    def uuid(self): return self.sample("uuid", lambda: str(uuid.uuid4()))
    def random(self): return self.sample("random", lambda: secrets.randbits(64))
    def patched(self, change):
        """Whether the scope takes the new path of a change of the agent's code."""
        name, samples = PATCHED + change, self.run.journal.samples[self.path]
        if change not in self.patches:
            self.patches[change] = any(recorded == name for recorded, _ in samples)
            if not self.patches[change] and not self.left():
                self.run.command("record_sample", scope=self.path, n=len(samples), name=name, value=payload(True))
                self.patches[change] = True
        return self.patches[change]
    def wait(self, test, due_us, service, method, request):
        """Waits for an entry; from `due_us` on the driver may have it appended itself."""
        while not self.run.until(test, None if due_us is None else max(0.001, due_us / 1e6 - time.time()), cancel=True):
            try:
                self.run.tape.unary(service, method, request)
            except Refused as refusal:
                if refusal.reason not in ("TOO_EARLY", "GATE_ANSWERED", "TIMER_DONE", "NOT_FOUND"):
                    raise
    def gate(self, name, until=None):
        """Waits for a signal: what ended the wait (`signal`, `earlier_signal`, `deadline`), and the answer."""
        def same(recorded, asked):
            stored, time_of = recorded
            return stored == asked if stored or not time_of else asked and ("in_ms" in asked or asked["at"] == time_of)
        send = lambda: self.run.command("open_gate", gate=name, deadline=deadline(until), scope=self.path)
        recorded, _ = self.ask(("gate", name), until, send, same=same)
        request = work_pb2.ExpireGateRequest(run=self.run.name, gate=name)
        self.wait(lambda journal: name in journal.gates, recorded[1], "work", "ExpireGate", request)
        by, kept = self.run.journal.gates[name]
        return by["by"], self.run.journal.value(kept)
    def timer(self, name, due, note=None):
        """Sets a timer and waits until it fires."""
        send = lambda: self.run.command("set_timer", timer=name, due=deadline(due), note=payload(note), scope=self.path)
        same = lambda recorded, asked: recorded[0] in (None, asked[0]) and recorded[1] == asked[1]
        _, due_us = self.ask(("timer", name), (due, reference(payload(note))), send, same=same)
        request = work_pb2.FireTimerRequest(run=self.run.name, timer=name)
        self.wait(lambda journal: name in journal.fired, due_us, "work", "FireTimer", request)
    def cancel_timer(self, name): self.ask(("cancelled", name), None, lambda: self.run.command("cancel_timer", timer=name))
    def budget(self, name, limit, currency="micro_usd", parent=None):
        unit = parts_pb2.Currency(**({"own": currency["unit"]} if isinstance(currency, dict) else {currency: {}}))
        send = lambda: self.run.command("open_budget", budget=name, parent=parent, currency=unit, limit=limit, scope=self.path)
        self.ask(("budget", name), (limit, currency, parent), send)
    def checkpoint(self, label, state):
        key, self.labels[label] = ("checkpoint", self.path, label, self.labels[label]), self.labels[label] + 1
        self.ask(key, reference(payload(state)), lambda: self.run.command("checkpoint", label=label, state=payload(state), scope=self.path))
    def complete(self, output):
        if left := [key for key in self.run.journal.recorded if key not in self.run.asked]:
            raise self.run.halt(Drift(f"the agent ends, and did not ask for what is recorded: {left}"))
        self.end("complete", output=payload(output))
    def fail(self, error): self.end("fail", error=error)
    def accept_cancel(self): self.end("accept_cancel")
    def end(self, command, **fields):
        self.run.command(command, **fields)
        self.run.halt(NotDriven(command, self.run.journal))
