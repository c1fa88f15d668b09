/** What a server says rarely, and what a clock does: a socket and timers that the test moves by hand. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";

import * as concord from "../concord.js";

const WELCOME = { type: "welcome", connection: "c", ping: 20, pong: 10, window: 1000, max_frame: 500, epoch: "e" };
const SNAPSHOT = [
  { type: "subscribed", how: "snapshot", epoch: "e", position: "p1", keep: 60 },
  { type: "snapshot", seq: 1, more: false, items: [1, 2].map((pk) => ({ pk, etag: `"${pk}-0"`, version: pk, instance: { id: pk } })) },
];
let sockets;

class Socket {
  constructor(url, protocols) {
    Object.assign(this, { url, protocols, sent: [], readyState: 1, closed: null });
    sockets.push(this);
  }
  send(text) { this.sent.push(JSON.parse(text)); }
  close(code) { this.closed = code ?? 1005; }
  say(frame) { this.onmessage({ data: JSON.stringify(frame) }); }
  end(code) { this.readyState = 3; this.onclose({ code, reason: "" }); }
  welcome(more) { this.say({ ...WELCOME, ...more }); return this; }
  asked(action) { return this.sent.filter((frame) => frame.action === action); }
  snapshot() {
    const { request_id } = this.asked("subscribe").at(-1);
    for (const frame of SNAPSHOT) this.say({ ...frame, request_id });
  }
}

const turn = () => new Promise((resolve) => setImmediate(resolve));
const latest = () => sockets.at(-1);
async function open(options = {}) {
  const connection = concord.connect("ws://server/ws/", { WebSocket: Socket, ...options });
  await turn();
  return connection;
}
/** Let time pass; timers fire, and what they began goes on. */
async function pass(milliseconds) {
  mock.timers.tick(milliseconds);
  await turn();
}

beforeEach(() => {
  sockets = [];
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000_000 });
});
afterEach(() => mock.timers.reset());

test("a relative address, and one of http, is that of a socket", async () => {
  await open();
  assert.deepEqual([latest().url, latest().protocols], ["ws://server/ws/", ["concord.v1"]]);
  concord.connect("https://server/ws/#x", { WebSocket: Socket, protocols: ["a"] });
  await turn();
  assert.deepEqual([latest().url, latest().protocols], ["wss://server/ws/", ["concord.v1", "a"]]);
});

test("the wait for a new attempt doubles up to a bound, and begins anew after a welcome", async () => {
  mock.method(Math, "random", () => 1);
  const connection = await open({ base: 100, cap: 350 });
  const waits = [];
  connection.addEventListener("status", ({ detail }) => detail.status === "waiting" && waits.push(detail.after));
  for (const wait of [100, 200, 350, 350]) {
    latest().end(1006);
    await pass(wait - 1);
    const before = sockets.length;
    await pass(1);
    assert.equal(sockets.length, before + 1);
  }
  latest().welcome().end(1006);
  assert.deepEqual(waits, [100, 200, 350, 350, 100]);
  mock.restoreAll();
});

test("a socket that fails to open is tried again, also where no close is told", async () => {
  const connection = await open({ base: 100, cap: 100 });
  latest().readyState = 3;
  latest().onerror({});
  assert.equal(connection.status, "waiting");
  await pass(100);
  assert.equal(sockets.length, 2);
  latest().onerror({}); // one that is open says by its close what became of it
  assert.equal(connection.status, "connecting");
});

test("whoever is told when to come back comes no sooner, also when the page wakes", async () => {
  const connection = await open();
  latest().welcome().say({ type: "bye", code: 4503, reconnect: true, after_ms: 700 });
  latest().end(4503);
  connection._wake();
  await pass(699);
  assert.equal(sockets.length, 1);
  await pass(1);
  assert.equal(sockets.length, 2);
});

test("a page that wakes does not wait for its turn", async () => {
  const connection = await open({ base: 60_000, cap: 60_000 });
  latest().end(1006);
  connection._wake();
  await turn();
  assert.equal(sockets.length, 2);
});

test("some codes are final", async () => {
  const connection = await open();
  const call = connection.call("retrieve", { model: "a.B", pk: 1 });
  const live = connection.subscribe({ model: "a.B" });
  latest().welcome().end(4403);
  for (const waiting of [call, live.ready]) await assert.rejects(waiting, { code: "4403" });
  assert.equal(connection.status, "closed");
  await pass(100_000);
  assert.equal(sockets.length, 1);
});

test("a token that has run out gets one more chance", async () => {
  let asked = 0;
  const connection = await open({ protocols: async () => [`token${(asked += 1)}`], base: 0 });
  latest().welcome().end(4401);
  await pass(0);
  assert.deepEqual(latest().protocols, ["concord.v1", "token2"]);
  latest().end(4401);
  assert.equal(connection.status, "closed");
});

test("frames are acknowledged before half the window is full, however many bytes a character has", async () => {
  const connection = await open();
  connection.subscribe({ model: "a.B" });
  latest().welcome({ window: 3000 }).snapshot();
  const { request_id } = latest().asked("subscribe")[0];
  const change = { action: "UPDATED", pk: 1, etag: null, version: 9, instance: { id: 1, text: "x".repeat(150) } };
  const frame = { type: "changes", request_id, more: false, changes: [change] };
  latest().say({ ...frame, seq: 2 });
  assert.deepEqual(latest().asked("ack"), []);
  latest().say({ ...frame, seq: 3 });
  assert.deepEqual(latest().asked("ack"), [{ action: "ack", seq: 3 }]);
  latest().say({ ...frame, seq: 4 });
  assert.equal(latest().asked("ack").length, 1);
});

test("a silent server is left, one that pings is answered", async () => {
  await open({ base: 0 });
  latest().welcome();
  await pass(29_000);
  latest().say({ type: "ping" });
  assert.deepEqual(latest().asked("pong"), [{ action: "pong" }]);
  for (let second = 0; second < 29; second++) await pass(1000);
  assert.equal(sockets.length, 1);
  for (let second = 0; second < 3; second++) await pass(1000);
  assert.deepEqual([sockets.length, sockets[0].closed], [2, 1005]);
});

for (const code of [410, 503]) {
  test(`after end ${code} the collection is followed again, and shows what it has`, async () => {
    const connection = await open();
    const live = connection.subscribe({ model: "a.B" });
    latest().welcome().snapshot();
    const { request_id } = latest().asked("subscribe")[0];
    latest().say({ type: "end", request_id, code });
    assert.deepEqual([live.status, live.items.length, latest().asked("subscribe").length], ["stale", 2, 2]);
    assert.notEqual(latest().asked("subscribe")[1].request_id, request_id);
    latest().snapshot();
    assert.equal(live.status, "live");
  });
}

test("after another end the collection is over", async () => {
  const connection = await open();
  const live = connection.subscribe({ model: "a.B" });
  latest().welcome().snapshot();
  latest().say({ type: "end", request_id: latest().asked("subscribe")[0].request_id, code: 403 });
  assert.deepEqual([live.status, live.items.length, connection._collections.size], ["ended", 2, 0]);
});

test("a copy that is too large to be named is read anew", async () => {
  const connection = await open({ base: 0 });
  connection.subscribe({ model: "a.B" });
  latest().welcome().snapshot();
  latest().end(1006);
  await pass(0);
  latest().welcome();
  assert.deepEqual(latest().asked("subscribe")[0].have, [1, 2]);
  latest().end(1006);
  await pass(0);
  latest().welcome({ max_frame: 100 });
  const frame = latest().asked("subscribe")[0];
  assert.deepEqual([frame.snapshot, frame.have, frame.since], [true, undefined, undefined]);
});

test("a write is sent again under its key, and not after that is forgotten", async () => {
  const connection = await open({ base: 0, cap: 0 });
  const write = connection.call("create", { model: "a.B", data: {} });
  latest().welcome().end(1006);
  await pass(0);
  latest().welcome();
  const [first, second] = sockets.map((socket) => socket.asked("create")[0]);
  assert.ok(first.idempotency_key);
  assert.deepEqual(first, second);
  latest().end(1006);
  await pass(9 * 60_000 + 1);
  latest().welcome();
  await assert.rejects(write, { code: "unknown_outcome" });
  assert.deepEqual(latest().asked("create"), []);
});

test("without keys the fate of a write that is cut off is not known", async () => {
  const connection = await open({ idempotency: false });
  const write = connection.call("create", { model: "a.B" });
  const read = connection.call("retrieve", { model: "a.B", pk: 1 });
  latest().welcome().end(1006);
  await assert.rejects(write, { code: "unknown_outcome" });
  assert.equal(connection._calls.size, 1);
  read.catch(() => {});
  connection.close();
});

test("no more than a thousand calls wait", async () => {
  const connection = await open();
  const calls = Array.from({ length: 1000 }, () => connection.call("list", { model: "a.B" }));
  await assert.rejects(connection.call("list", { model: "a.B" }), { code: "too_many" });
  connection.close();
  assert.equal((await Promise.allSettled(calls)).length, 1000);
});

async function locked(state = {}) {
  const connection = await open({ base: 0 });
  latest().welcome();
  const asked = connection.resource("a.B").lock(1, { ttl: 30 });
  const body = { state: "held", mine: true, mode: "hold", generation: 3, expires_in: 30, ...state };
  const answer = (action, status, data, code) => {
    const { request_id } = latest().asked(action).at(-1);
    latest().say({ action, request_id, response_status: status, errors: data ? [] : [{ code, detail: code }], data, code });
  };
  answer("lock", 201, { ...body, lock_token: "t" });
  const lock = await asked;
  const events = [];
  lock.addEventListener("lost", ({ detail }) => events.push(detail.error.code));
  return { connection, lock, events, body, answer };
}

test("a lock is renewed after a third of its time, by our own clock", async () => {
  const { lock, answer, body } = await locked();
  await pass(9_999);
  assert.deepEqual(latest().asked("renew"), []);
  await pass(1);
  assert.deepEqual([latest().asked("renew")[0].lock_token, latest().asked("renew")[0].data], ["t", { ttl: 30 }]);
  answer("renew", 200, { ...body, expires_in: 30 });
  await pass(9_999);
  assert.deepEqual([latest().asked("renew").length, lock.held], [1, true]);
  await pass(1);
  assert.equal(latest().asked("renew").length, 2);
  lock._stop();
});

test("a lock that nobody renews in time is lost: a laptop that slept", async () => {
  const { lock, events } = await locked();
  await pass(31_000);
  assert.deepEqual([lock.held, events], [false, ["lock_lost"]]);
  await pass(100_000);
  assert.equal(events.length, 1);
});

test("a lock without a connection lasts as long as it was given", async () => {
  const { lock, events } = await locked();
  latest().end(1006);
  for (let second = 0; second < 29; second++) await pass(1000);
  assert.equal(lock.held, true);
  await pass(1000);
  assert.deepEqual([lock.held, events], [false, ["lock_lost"]]);
});

test("a lock that may be had no longer runs out", async () => {
  const { lock, events, answer } = await locked();
  await pass(10_000);
  answer("renew", 429, null, "lock_limit");
  await pass(19_999);
  assert.deepEqual([lock.held, latest().asked("renew").length], [true, 1]);
  await pass(1);
  assert.deepEqual(events, ["lock_limit"]);
});

test("news that a lock is another's is looked into", async () => {
  const { connection, lock, events, body, answer } = await locked();
  connection.subscribe({ model: "A.b" });
  latest().snapshot();
  const { request_id } = latest().asked("subscribe")[0];
  const news = (state) =>
    latest().say({ type: "changes", request_id, seq: 9, more: false, changes: [{ action: "LOCKED", pk: 1, lock: state }] });
  news(body);
  assert.deepEqual(latest().asked("renew"), []);
  news({ ...body, mine: false, generation: 4 });
  answer("renew", 412, null, "lock_lost");
  await turn();
  assert.deepEqual([lock.held, events], [false, ["lock_lost"]]);
});

test("a connection that is closed takes its locks along", async () => {
  const { connection, lock, events } = await locked();
  connection.close();
  assert.deepEqual([lock.held, events], [false, ["closed"]]);
});

test("a lock that is had again ends when the server says", async () => {
  const { lock, events } = await locked({ expires_in: 20 });
  latest().end(1006);
  for (let second = 0; second < 20; second++) await pass(1000);
  assert.deepEqual([lock.held, events], [false, ["lock_lost"]]);
});

test("a write that is refused with lock_lost ends the lock", async () => {
  const { connection, lock, events, answer } = await locked({ mode: "freeze", expires_in: null });
  const write = connection.resource("a.B").patch(1, {}, { ifMatch: null, lock });
  answer("patch", 412, null, "lock_lost");
  await assert.rejects(write, concord.LockLostError);
  assert.deepEqual([lock.held, events], [false, ["lock_lost"]]);
});

for (const [what, state, held] of [["stands", {}, true], ["is gone", { state: "free" }, false], ["is another", { generation: 4 }, false]]) {
  test(`a freeze is looked after when the connection is back: it ${what}`, async () => {
    const { lock, body, answer } = await locked({ mode: "freeze", expires_in: null });
    latest().end(1006);
    await pass(0);
    latest().welcome();
    answer("lock_state", 200, { ...body, ...state });
    await turn();
    assert.equal(lock.held, held);
    lock._stop();
  });
}

test("news of a freeze that is broken end it, also where its key was given as a text", async () => {
  const connection = await open();
  latest().welcome();
  const asked = connection.resource("a.B").lock("1", { mode: "freeze" });
  const { request_id } = latest().asked("lock")[0];
  const data = { mine: true, mode: "freeze", generation: 3, expires_in: null, lock_token: "t" };
  latest().say({ action: "lock", request_id, response_status: 201, errors: [], data });
  const lock = await asked;
  connection.subscribe({ model: "a.B" });
  latest().snapshot();
  const changes = [{ action: "BROKEN", pk: 1, version: null, lock: { state: "free", mine: false, generation: 4 } }];
  latest().say({ type: "changes", request_id: latest().asked("subscribe")[0].request_id, seq: 9, more: false, changes });
  assert.equal(lock.held, false);
});

test("a lock that was asked for and given up is given back", async () => {
  const connection = await open();
  latest().welcome();
  const leaving = new AbortController();
  const asked = connection.resource("a.B").lock(1, { signal: leaving.signal });
  leaving.abort();
  await assert.rejects(asked, { name: "AbortError" });
  const { request_id } = latest().asked("lock")[0];
  const data = { state: "held", mine: true, generation: 1, expires_in: 30, lock_token: "t" };
  latest().say({ action: "lock", request_id, response_status: 201, errors: [], data });
  await turn();
  assert.equal(latest().asked("unlock")[0].lock_token, "t");
});

test("one failure of the page's own headers() does not end the renewing", async () => {
  let fails = false, renewed = 0;
  const state = { mine: true, generation: 1, expires_in: 30 };
  const headers = { "Content-Type": "application/json", "Lock-Token": "t" };
  const fetch = async (url, { method }) => ((renewed += method === "PATCH"), new Response(JSON.stringify(state), { headers }));
  const connection = await open({ fetch, headers: async () => { if (fails) throw new Error("No token"); return {}; } });
  const lock = await connection.resource("a.B", { url: "http://server/b/" }).lock(1);
  fails = true;
  await pass(10_000);
  await turn();
  fails = false;
  for (let second = 0; second < 3; second++) await pass(1000).then(turn);
  assert.equal(renewed, 1);
  lock._stop();
});

test("a take-over is not sent again a minute later", async () => {
  const connection = await open({ base: 0 });
  latest().welcome();
  const taken = connection.resource("a.B").takeOver(1);
  latest().end(1006);
  await assert.rejects(taken, { code: "unknown_outcome" });
  await pass(0);
  latest().welcome();
  assert.deepEqual(latest().asked("break"), []);
});

// ------------------------------------------------------------- what listeners and late answers may do

test("close() in a listener during a cut is final", async () => {
  const connection = await open({ base: 0 });
  const live = connection.subscribe({ model: "a.B" });
  latest().welcome().snapshot();
  live.addEventListener("status", () => live.status === "stale" && connection.close());
  latest().end(1006);
  await pass(1000);
  assert.deepEqual([connection.status, sockets.length], ["closed", 1]);
});

test("close() in a listener of changes breaks nothing", async () => {
  const connection = await open();
  const live = connection.subscribe({ model: "a.B" });
  live.addEventListener("change", () => connection.close());
  latest().welcome();
  assert.doesNotThrow(() => latest().snapshot());
});

test("a collection that is closed when it gets stale is not followed again", async () => {
  const connection = await open();
  const live = connection.subscribe({ model: "a.B" });
  latest().welcome().snapshot();
  live.addEventListener("status", () => live.status === "stale" && live.close());
  latest().say({ type: "end", request_id: latest().asked("subscribe")[0].request_id, code: 503 });
  assert.equal(latest().asked("subscribe").length, 1);
});

test("the question whether a socket lives says nothing of the next one", async () => {
  const connection = await open({ base: 0 });
  latest().welcome();
  connection._wake();
  for (let second = 0; second < 7; second++) await pass(1000);
  assert.equal(sockets.length, 2);
});

test("protocols that never come are asked for again", async () => {
  let asked = 0;
  await open({ base: 0, protocols: () => (asked++ ? [] : new Promise(() => {})) });
  for (let second = 0; second < 10; second++) await pass(1000);
  assert.equal(sockets.length, 1);
});

test("a collection that is resumed is live when it has what it missed", async () => {
  const connection = await open({ base: 0 });
  const live = connection.subscribe({ model: "a.B" });
  latest().welcome().snapshot();
  latest().end(1006);
  await pass(0);
  latest().welcome();
  const { request_id } = latest().asked("subscribe")[0];
  const seen = [];
  live.addEventListener("status", () => seen.push([live.status, live.items.length]));
  latest().say({ type: "subscribed", request_id, how: "resumed", epoch: "e", position: "p1", keep: 60 });
  const gone = (pk) => [{ action: "DELETED", pk, etag: null, version: 9, reason: "deleted" }];
  latest().say({ type: "changes", request_id, seq: 1, more: true, changes: gone(1) });
  latest().say({ type: "changes", request_id, seq: 2, more: false, changes: gone(2) });
  assert.deepEqual(seen, [["live", 0]]);
});

test("a collection that missed nothing is live at the next mark", async () => {
  const connection = await open({ base: 0 });
  const live = connection.subscribe({ model: "a.B" });
  latest().welcome().snapshot();
  latest().end(1006);
  await pass(0);
  latest().welcome();
  const { request_id } = latest().asked("subscribe")[0];
  latest().say({ type: "subscribed", request_id, how: "resumed", epoch: "e", position: "p1", keep: 60 });
  assert.equal(live.status, "stale");
  latest().say({ type: "mark", seq: 1, epoch: "e", position: "p2" });
  assert.equal(live.status, "live");
});

test("what the server cannot take is refused at once, and not sent", async () => {
  const connection = await open();
  latest().welcome();
  const write = connection.call("create", { model: "a.B", data: { text: "x".repeat(600) } });
  await assert.rejects(write, { status: 413, code: "too_large" });
  assert.deepEqual([latest().asked("create"), connection._calls.size], [[], 0]);
});

for (const sends of ["answer", "end"]) {
  test(`401 in an ${sends} makes one more try with a new token`, async () => {
    let asked = 0;
    const connection = await open({ base: 0, protocols: async () => [`token${(asked += 1)}`] });
    const live = connection.subscribe({ model: "a.B" });
    latest().welcome().snapshot();
    const call = connection.call("patch", { model: "a.B", pk: 1 });
    const refuse = () => {
      const [action, kind] = sends === "end" ? ["subscribe", { type: "end", code: 401 }] : ["patch", { response_status: 401, errors: ["no"] }];
      latest().say({ ...kind, request_id: latest().asked(action).at(-1).request_id });
    };
    refuse();
    await turn();
    assert.deepEqual([sockets.length, latest().protocols], [2, ["concord.v1", "token2"]]);
    latest().welcome();
    assert.deepEqual([latest().asked("patch").length, latest().asked("subscribe").length], [1, 1]);
    call.catch(() => {});
    refuse();
    await turn();
    assert.equal(sockets.length, 2);
    if (sends === "end") assert.equal(live.status, "ended");
    else await assert.rejects(call, { status: 401 });
    connection.close();
  });
}

test("a body over HTTP that is cut is an unknown outcome", async () => {
  const cut = new ReadableStream({ start: (controller) => controller.error(new TypeError("terminated")) });
  const fetch = async () => new Response(cut, { headers: { "Content-Type": "application/json" } });
  const tasks = (await open({ fetch })).resource("a.B", { url: "http://server/b/" });
  await assert.rejects(tasks.patch(1, {}, { ifMatch: null }), { code: "unknown_outcome" });
});

test("old states and repetitions are no change", () => {
  const replica = new concord.Replica();
  for (const frame of SNAPSHOT) replica.take(structuredClone(frame));
  const told = (action, pk, version) =>
    replica.take({ type: "changes", more: false, changes: [{ action, pk, version, etag: '"x"', instance: { id: pk } }] });
  told("UPDATED", 2, 5);
  assert.deepEqual(told("UPDATED", 2, 5).changes, []);
  told("DELETED", 1, 9);
  told("UPDATED", 1, 8);
  assert.equal(replica.rows.has(1), false);
  told("CREATED", 1, 9);
  assert.equal(replica.rows.has(1), true);
});

test("why there is no connection is said", async () => {
  const connection = await open({ base: 100, protocols: () => { throw new Error("No token"); } });
  const said = [];
  connection.addEventListener("status", ({ detail }) => said.push(detail));
  await pass(100);
  assert.match(said.find(({ status }) => status === "waiting").reason, /No token/);
  connection.close();
});
