/** Against a running demo, whose address is in CONCORD_DEMO, through a proxy that cuts the connection. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { after, afterEach, before, beforeEach, test } from "node:test";

import * as concord from "../concord.js";
import { Proxy } from "./proxy.js";

const address = process.env.CONCORD_DEMO;
const options = { skip: address ? false : "CONCORD_DEMO names no running demo", timeout: 30_000 };
const opened = [];
let proxy, near;

before(async () => {
  if (!address) return;
  proxy = new Proxy(Number(new URL(address).port));
  near = `http://127.0.0.1:${await proxy.listen()}`;
});
after(() => proxy?.close());
beforeEach(() => {
  if (proxy) proxy.refusing = false;
});
afterEach(() => opened.splice(0).forEach((connection) => connection.close()));

const token = async (name) => (await (await fetch(`${address}/board/token/${name}/`)).json()).token;

function connect(name = "guido", more = {}) {
  const connection = concord.connect(`${near}/ws/`, {
    protocols: async () => [`demo.${await token(name)}`],
    headers: async () => ({ Authorization: `Demo ${await token(name)}` }),
    base: 20,
    ...more,
  });
  opened.push(connection);
  return connection;
}

/** Wait until something holds; looked at after each event of a target. */
async function until(target, holds, ...types) {
  while (!holds()) await Promise.race(types.map((type) => once(target, type)));
}

const changed = (collection, holds) => until(collection, holds, "change", "status", "lock");
const basic = (name) => ({ Authorization: `Basic ${btoa(`${name}:${name}`)}`, "Content-Type": "application/json" });

async function api(method, path, body, name = "ada") {
  const answer = await fetch(`${address}/api/${path}`, { method, headers: basic(name), body: body && JSON.stringify(body) });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${answer.ok ? "" : await answer.text()}`);
  return answer.status === 204 ? null : answer.json();
}

const makeList = async () => (await api("POST", "lists/", { name: "for a test" })).id;
const makeTask = (list, text = "a task") => api("POST", "tasks/", { list, text });

for (const [door, url] of [["the socket", undefined], ["HTTP", "/api/tasks/"]]) {
  const resource = (name = "guido") => connect(name).resource("todolist.Task", { url: url && near + url });

  test(`create, get, patch, update, delete over ${door}`, options, async () => {
    const tasks = resource();
    const made = await tasks.create({ list: await makeList(), text: "made" });
    assert.equal(made.text, "made");
    const patched = await tasks.patch(made, { done: true });
    assert.deepEqual([patched.done, patched.text], [true, "made"]);
    const got = await tasks.get(made.id);
    assert.deepEqual({ ...got }, { ...patched });
    const whole = await tasks.update(got, { ...got, text: "whole" });
    assert.deepEqual((await tasks.list({ list: made.list })).map(({ text }) => text), ["whole"]);
    await tasks.delete(whole);
    await assert.rejects(tasks.get(made.id), concord.NotFoundError);
  });

  test(`a write on an old state is refused with mine and theirs, over ${door}`, options, async () => {
    const tasks = resource();
    const mine = await tasks.get((await makeTask(await makeList())).id);
    await api("PATCH", `tasks/${mine.id}/`, { text: "Ada's", notes: "too" });
    const error = await tasks.patch(mine, { text: "Guido's", done: true }).then(assert.fail, (refused) => refused);
    assert.ok(error instanceof concord.ConflictError);
    assert.deepEqual([error.status, error.code], [412, "version_mismatch"]);
    assert.deepEqual(error.mine, { text: "Guido's", done: true });
    assert.deepEqual([error.base, error.theirs.text, error.theirs.done], [mine, "Ada's", false]);
    assert.deepEqual([error.changed, error.conflicting, error.by], [["notes", "text"], ["text"], "ada"]);
    assert.ok(Date.now() - Date.parse(error.at) < 60_000);
    // what came with the refusal can be written at once
    assert.equal((await tasks.patch(error.theirs, { done: true })).text, "Ada's");
  });

  test(`whoever writes says on which state, over ${door}`, options, async () => {
    const tasks = resource();
    const task = await tasks.get((await makeTask(await makeList())).id);
    for (const target of [task.id, { ...task }]) await assert.rejects(tasks.patch(target, { done: true }), TypeError);
    assert.equal((await tasks.patch(task.id, { done: true }, { ifMatch: concord.etagOf(task) })).done, true);
    assert.equal((await tasks.patch(task.id, { text: "any" }, { ifMatch: null })).text, "any");
    await assert.rejects(tasks.patch(task, { text: "old" }), concord.ConflictError);
  });

  test(`refusals have types, over ${door}`, options, async () => {
    const tasks = resource();
    const task = await tasks.get((await makeTask(await makeList())).id);
    const error = await tasks.patch(task, { text: "" }).then(assert.fail, (refused) => refused);
    assert.ok(error instanceof concord.ValidationError);
    assert.deepEqual(Object.keys(error.fields), ["text"]);
    const nobody = connect("guido", { protocols: [], headers: {} }).resource("todolist.Task", { url: url && near + url });
    await assert.rejects(nobody.create({ list: task.list, text: "no" }), (refused) =>
      // a key needs a user: who is not logged in is told so either way
      refused instanceof concord.ForbiddenError || refused.status === 400);
  });

  test(`a lock keeps others out until it is released, over ${door}`, options, async () => {
    const [mine, hers] = [resource(), resource("ada")];
    const task = await mine.get((await makeTask(await makeList())).id);
    const lock = await mine.lock(task, { ttl: 20, reason: "thinking" });
    assert.ok(lock.held && lock.token && lock.state.mine);
    for (const attempt of [() => hers.patch(task, { done: true }), () => hers.lock(task)]) {
      const error = await attempt().then(assert.fail, (refused) => refused);
      assert.ok(error instanceof concord.LockedError);
      assert.deepEqual([error.holder, error.reason, error.mine], ["guido", "thinking", false]);
      assert.ok(Date.parse(error.expiresAt) > Date.parse(error.since));
    }
    assert.equal((await mine.patch(task, { done: true }, { lock })).done, true);
    await lock.release();
    await lock.release();
    assert.equal((await hers.patch(await hers.get(task.id), { text: "hers" })).text, "hers");
  });

  test(`a lock renews itself, and tells when it was taken over, ${door}`, options, async () => {
    const [mine, hers] = [resource(), resource("ada")];
    const task = await mine.get((await makeTask(await makeList())).id);
    const lock = await mine.lock(task, { ttl: 0.9 });
    const first = Date.parse(lock.state.expires_at);
    const follower = hers.subscribe({ groupBy: "pk", value: task.id });
    await follower.ready;
    await until(follower, () => Date.parse(follower.locks.get(task.id)?.expires_at) > first, "lock");
    assert.ok(lock.held);
    const lost = once(lock, "lost");
    const taken = await hers.takeOver(task);
    assert.ok((await lost)[0].detail.error instanceof concord.LockLostError);
    assert.equal(lock.held, false);
    await assert.rejects(mine.patch(task, { done: true }, { lock }), concord.LockLostError);
    await taken.release();
  });
}

test("a collection equals the list, whoever writes and whatever is cut", options, async () => {
  const list = await makeList();
  const tasks = connect().resource("todolist.Task");
  const live = tasks.subscribe({ groupBy: "list_id", value: list });
  assert.deepEqual([(await live.ready).items, live.status], [[], "live"]);
  const made = [];
  for (let round = 0; round < 8; round++) {
    if (round % 2) {
      proxy.cut();
      await until(live, () => live.status === "stale", "status");
    }
    for (let n = 0; n < 5; n++) made.push((await makeTask(list, `${round}.${n}`)).id);
    await api("PATCH", `tasks/${made[round]}/`, { done: true });
    await api("DELETE", `tasks/${made.splice(round + 1, 1)}/`);
    await until(live, () => live.status === "live", "status");
  }
  const truth = await api("GET", `tasks/?list=${list}`);
  await changed(live, () => JSON.stringify(live.items) === JSON.stringify(truth));
  // what was pushed carries the tag that writes it back
  assert.equal((await tasks.patch(live.items[0], { text: "by its pushed tag" })).text, "by its pushed tag");
  await changed(live, () => live.items[0].text === "by its pushed tag");
});

test("a dead network is noticed, and healed without a close", options, async () => {
  const connection = connect("guido", { probe: 200 });
  const live = connection.resource("todolist.Task").subscribe({ groupBy: "list_id", value: await makeList() });
  await live.ready;
  const { length } = live.items;
  proxy.freeze();
  connection._wake(); // as a page does that becomes visible, or finds another network
  await until(live, () => live.status === "stale", "status");
  await until(live, () => live.status === "live", "status");
  assert.equal(live.items.length, length);
});

test("a call that is cut off is done once", options, async () => {
  const list = await makeList();
  const connection = connect();
  const tasks = connection.resource("todolist.Task");
  await until(connection, () => connection.status === "open", "status");
  for (let n = 0; n < 10; n++) {
    const call = tasks.create({ list, text: `once ${n}` });
    if (n % 3) proxy.cut();
    else await new Promise((resolve) => setTimeout(() => resolve(proxy.cut()), n)); // somewhere on the way
    assert.equal((await call).text, `once ${n}`);
  }
  assert.equal((await api("GET", `tasks/?list=${list}`)).length, 10);
});

test("for await gives the newest state, and ends with the collection", options, async () => {
  const list = await makeList();
  const live = connect().resource("todolist.Task").subscribe({ groupBy: "list_id", value: list });
  const seen = [];
  for await (const items of live) {
    seen.push(items.length);
    if (items.length === 3) live.close();
    else await makeTask(list);
  }
  assert.deepEqual([seen[0], seen.at(-1), live.status], [0, 3, "ended"]);
});

test("signals end a call, a collection and a lock that is asked for", options, async () => {
  const connection = connect();
  const tasks = connection.resource("todolist.Task");
  await until(connection, () => connection.status === "open", "status");
  proxy.refusing = true;
  proxy.cut();
  await until(connection, () => connection.status === "waiting", "status");
  const signal = AbortSignal.timeout(20);
  await assert.rejects(tasks.get(1, { signal }), { name: "TimeoutError" });
  await assert.rejects(tasks.lock(1, { signal }), { name: "TimeoutError" });
  assert.equal(connection._calls.size, 0);
  const control = new AbortController();
  const live = tasks.subscribe({ signal: control.signal });
  control.abort();
  assert.equal(live.status, "ended");
  assert.throws(() => tasks.subscribe({ signal: control.signal }), { name: "AbortError" });
});

test("what cannot be followed says so", options, async () => {
  const connection = connect();
  for (const [model, status] of [["no.Model", 404], ["todolist.Task", 400]]) {
    const live = connection.subscribe({ model, groupBy: "colour", value: 1 });
    await assert.rejects(live.ready, (error) => error.status === status);
    await assert.rejects(live[Symbol.asyncIterator]().next(), concord.ConcordError);
    assert.equal(live.status, "ended");
  }
});

test("a connection that is closed answers nothing any more", options, async () => {
  const connection = connect();
  const tasks = connection.resource("todolist.Task");
  const live = tasks.subscribe();
  const call = tasks.get(1);
  connection.close();
  await assert.rejects(call, { code: "closed" });
  await assert.rejects(live.ready, { code: "closed" });
  await assert.rejects(tasks.get(1), { code: "closed" });
  await assert.rejects(tasks.subscribe().ready, { code: "closed" });
});

test("a token that is none is refused", options, async () => {
  const tasks = connect("guido", { protocols: ["demo.guido.0.signature"] }).resource("todolist.Task");
  await assert.rejects(tasks.get(1), (error) => error instanceof concord.ForbiddenError && error.status === 401);
});
