/**
 * The browser client of drf-concord: objects that know their tag, locks that renew themselves, and live
 * collections that equal a fresh GET, however often the connection is cut.
 *
 * No dependencies and no build: `import { connect } from "./concord.js"`. The frames are those of
 * spec/protocol.md, session mode.
 *
 * @module concord
 */

/** @typedef {string | number} Key The value of the view's lookup field; in a collection, the primary key. */
/** @typedef {Readonly<Record<string, any>>} Item An object of the API; frozen, and it knows its tag. */
/** @typedef {{ state: string, mine: boolean, mode: string | null, scope: string | string[] | null,
 *    reason: string, holder: string | null, acquired_at: string | null, expires_at: string | null,
 *    expires_in: number | null, generation: number }} LockState The body of `GET .../lock/`. */
/** @typedef {"connecting" | "live" | "stale" | "ended"} CollectionStatus `stale`: the items are those of before the cut. */
/** @typedef {"connecting" | "open" | "waiting" | "closed"} ConnectionStatus */
/** @typedef {{ action: string, pk: Key, item: Item | null, before: Item | null, reason?: string }} Change */
/** @typedef {{ signal?: AbortSignal, ifMatch?: string | null, lock?: Lock | string,
 *    query?: Record<string, any> }} WriteOptions `ifMatch: null` writes whatever the state is. */
/** @typedef {{ model: string, groupBy?: string, value?: any, query?: Record<string, any>,
 *    arguments?: Record<string, any>, mode?: "state" | "events", order?: (a: Item, b: Item) => number,
 *    signal?: AbortSignal }} SubscribeOptions */
/** @typedef {{ protocols?: string[] | (() => string[] | Promise<string[]>),
 *    headers?: HeadersInit | (() => HeadersInit | Promise<HeadersInit>), idempotency?: boolean,
 *    WebSocket?: any, fetch?: typeof fetch, base?: number, cap?: number, probe?: number }} Options
 *    `protocols` come beside `concord.v1`; `headers` go with each fetch; `idempotency: false` where people who
 *    are not logged in may write. In milliseconds: `base` and `cap` bound the wait before a new attempt; `probe` is
 *    how long a socket may take to open, or to say that it lives. */

const MAX_WAITING = 1000; // calls that wait for an answer
const KEY_LIFE = 9 * 60_000; // the server knows an idempotency key for ten minutes
const NEWS_OF_LOCKS = new Set(["LOCKED", "UNLOCKED", "BROKEN", "EXPIRED"]);
const UNKEYED = new Set(["list", "retrieve", "lock_state", "lock", "renew", "unlock", "break"]); // the server reads no key there

// ------------------------------------------------------------------------------------------ errors

/** The request was refused, or its fate is not known. */
export class ConcordError extends Error {
  /** @param {string} detail @param {{ status?: number, code?: string | null, body?: any }} [about] */
  constructor(detail, { status = 0, code = null, body = null } = {}) {
    super(detail);
    this.name = new.target.name;
    /** The HTTP status, over the socket too; 0 where there was no answer. @type {number} */
    this.status = status;
    /** What programs branch on. @type {string | null} */
    this.code = code;
    /** What the server said. @type {any} */
    this.body = body;
    /** When trying again may help, in seconds. @type {number | null} */
    this.retryAfter = null;
  }
}
/** 400: what was sent is not valid; `fields` has the texts by field. */
export class ValidationError extends ConcordError {
  /** @type {Record<string, string[]>} */
  get fields() {
    return this.body && typeof this.body === "object" && !Array.isArray(this.body) ? this.body : {};
  }
}
/** 401, 403: this user may not do that. */
export class ForbiddenError extends ConcordError {}
/** 404: there is no such object, or this user may not see it. */
export class NotFoundError extends ConcordError {}
/** 409: a lock stops this write. */
export class LockedError extends ConcordError {
  /** Who has it, as far as this user may know. @type {string | null} */
  get holder() { return this.body?.holder ?? null; }
  /** @type {string} */
  get reason() { return this.body?.reason ?? ""; }
  /** Since when, as ISO 8601. @type {string | null} */
  get since() { return this.body?.since ?? null; }
  /** @type {string | null} */
  get expiresAt() { return this.body?.expires_at ?? null; }
  /** Whether this user has it, in another tab or program. @type {boolean} */
  get mine() { return this.body?.mine ?? false; }
}
/** 412: the object was changed since it was read; nothing was written. */
export class ConflictError extends ConcordError {
  /** What was to be written. @type {any} */
  mine = null;
  /** The object as it is now; write it with `patch(error.theirs, ...)`. @type {Item | null} */
  theirs = null;
  /** The object that the write was based on. @type {Item | null} */
  base = null;
  /** Names of the fields that changed since; null when that is not known. @type {string[] | null} */
  get changed() { return this.body?.changed_fields ?? null; }
  /** Those of them that the write has too. @type {string[] | null} */
  get conflicting() { return this.body?.conflicting_fields ?? null; }
  /** Who changed it last, as far as the view tells. @type {string | null} */
  get by() { return this.body?.modified_by ?? null; }
  /** When, as ISO 8601. @type {string | null} */
  get at() { return this.body?.modified_at ?? null; }
}
/** 412: the lock that the write relies on is not held any more. */
export class LockLostError extends ConcordError {}
/** There was no answer: the connection is closed for good, or the fate of a write is not known. */
export class ConnectionError extends ConcordError {}

/** @param {number} status @param {any} body @param {string | null} [code] @returns {ConcordError} */
export function refusal(status, body, code = null) {
  code = code ?? body?.code ?? null;
  let kind = ConcordError;
  if (code === "lock_lost") kind = LockLostError;
  else if (code === "object_locked" || code === "object_already_locked") kind = LockedError;
  else if (status === 412) kind = ConflictError;
  else if (status === 400) kind = ValidationError;
  else if (status === 401 || status === 403) kind = ForbiddenError;
  else if (status === 404) kind = NotFoundError;
  const said = typeof body === "string" ? body : body?.detail;
  return new kind(said || `The server answered ${status}.`, { status, code, body });
}

// ------------------------------------------------------------------------------------------ objects

/** @type {WeakMap<object, { pk: Key, etag: string | null }>} */
const known = new WeakMap();

/** @param {any} data @param {Key} pk @param {string | null} etag @returns {Item} */
function itemOf(data, pk, etag) {
  const item = Object.freeze(data);
  known.set(item, { pk, etag });
  return item;
}

/** Return the tag of the state that an object is a copy of. @param {Item} item @returns {string | null} */
export const etagOf = (item) => known.get(item)?.etag ?? null;
/** Return the key that an object was told or asked for by. @param {Item} item @returns {Key | undefined} */
export const keyOf = (item) => known.get(item)?.pk;

/** @param {Item | Key} target @param {string} field @returns {Key} */
function named(target, field) {
  const pk = target && typeof target === "object" ? target[field] ?? keyOf(target) : target;
  if (pk !== undefined && pk !== null) return pk;
  throw new TypeError("Pass the key of the object, or the object as it was read (a copy knows no tag).");
}

/** @param {Item | Key} target @param {WriteOptions} options @returns {string | undefined} */
function basis(target, { ifMatch }) {
  if (ifMatch !== undefined) return ifMatch ?? undefined;
  const etag = typeof target === "object" ? etagOf(target) : null;
  if (etag) return etag;
  throw new TypeError(
    "Say which state this write is based on: pass the object as it was read, or { ifMatch: etag };" +
    " { ifMatch: null } writes whatever the state is.",
  );
}

/** @param {Key} a @param {Key} b */
const byKey = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a) < String(b) ? -1 : 1);

// -------------------------------------------------------------------------------- copies of the server

/** One subscription's copy of the server's objects: frames go in, states come out. It does no IO. */
export class Replica {
  constructor() {
    /** @type {Map<Key, { item: Item, version: number | null }>} */
    this.rows = new Map();
    /** Where to resume from: what was taken in up to here is complete. @type {{ epoch: string, position: string } | null} */
    this.since = null;
    /** Whether `rows` have been complete once. */
    this.complete = false;
    /** @type {Map<Key, { item: Item, version: number | null }> | null} */
    this._fresh = null;
    /** @type {{ epoch: string, position: string } | null} */
    this._next = null;
    /** @type {any[]} */
    this._held = [];
    /** Versions of what is gone, the latest thousand: an older state brings nothing back. @type {Map<Key, number>} */
    this._gone = new Map();
  }

  /** Whether a snapshot is on its way. */
  get joining() {
    return this._fresh !== null;
  }

  /** Forget what was taken in by half: the connection is gone. */
  cut() {
    this._fresh = this._next = null;
    this._held = [];
  }

  /** Return what the frame `subscribe` says of this copy; nothing where all is to be sent again.
   * @returns {{ since?: { epoch: string, position: string }, have?: Key[] }} */
  resume() {
    return this.complete && this.since ? { since: this.since, have: [...this.rows.keys()] } : {};
  }

  /** Take a frame in. @param {any} frame
   * @returns {{ changes: Change[], locks: any[] } | null} what is different now; null where nothing is shown yet */
  take(frame) {
    if (frame.type === "subscribed") {
      const { epoch, position } = frame;
      if (frame.how === "snapshot") {
        // of the snapshot: what is shown until that is complete goes with no position
        this.since = null;
        this._fresh = new Map();
        this._next = { epoch, position };
      } else {
        this.since = { epoch, position };
        if (frame.how === "live") this.complete = true;
      }
    } else if (frame.type === "mark" && this.since && !this._fresh && !this._held.length) {
      this.since = { epoch: frame.epoch, position: frame.position };
    } else if (frame.type === "reset") {
      this.cut();
      this.since = null;
      this._fresh = new Map();
    } else if (frame.type === "snapshot" && this._fresh) {
      for (const { pk, etag, version, instance } of frame.items) {
        this._fresh.set(pk, { item: itemOf(instance, pk, etag), version });
      }
      if (!frame.more) return this._swap(this._fresh);
    } else if (frame.type === "changes") {
      this._held.push(...frame.changes);
      if (!frame.more) return this._apply(this._held.splice(0));
    }
    return null;
  }

  /** @param {Map<Key, { item: Item, version: number | null }>} fresh */
  _swap(fresh) {
    const changes = [];
    for (const [pk, row] of this.rows) {
      if (!fresh.has(pk)) changes.push({ action: "DELETED", pk, item: null, before: row.item });
    }
    for (const [pk, row] of fresh) {
      const before = this.rows.get(pk);
      if (before && before.version !== null && before.version === row.version && same(before.item, row.item)) {
        fresh.set(pk, before);
      } else {
        changes.push({ action: before ? "UPDATED" : "CREATED", pk, item: row.item, before: before?.item ?? null });
      }
    }
    this.rows = fresh;
    this.since = this._next;
    this._fresh = this._next = null;
    this.complete = true;
    return { changes, locks: [] };
  }

  /** @param {any[]} told */
  _apply(told) {
    /** @type {{ changes: Change[], locks: any[] }} */
    const found = { changes: [], locks: [] };
    for (const { action, pk, etag, version, instance, reason, lock } of told) {
      const row = this.rows.get(pk);
      const before = row?.item ?? null;
      if (NEWS_OF_LOCKS.has(action)) {
        found.locks.push({ action, pk, lock });
      } else if (version !== null && version < (row?.version ?? this._gone.get(pk) ?? -Infinity)) {
        continue; // older than what is, or was, shown
      } else if (action === "DELETED") {
        if (version !== null) this._bury(pk, version);
        if (this.rows.delete(pk)) found.changes.push({ action, pk, item: null, before, reason });
      } else if (action === "CREATED" || action === "UPDATED") {
        const item = itemOf(instance, pk, etag);
        if (row && version !== null && version === row.version && same(row.item, item)) continue; // told before
        this.rows.set(pk, { item, version });
        found.changes.push({ action: row ? "UPDATED" : "CREATED", pk, item, before });
      }
    }
    return found;
  }

  /** @param {Key} pk @param {number} version */
  _bury(pk, version) {
    this._gone.delete(pk);
    this._gone.set(pk, version);
    if (this._gone.size > 1000) this._gone.delete(/** @type {Key} */ (this._gone.keys().next().value));
  }
}

/** @param {Item} a @param {Item} b */
const same = (a, b) => etagOf(a) === etagOf(b) && JSON.stringify(a) === JSON.stringify(b);

/** @param {string} type @param {any} detail */
const event = (type, detail) => Object.assign(new Event(type), { detail });

/**
 * Objects that follow the server. `items` is a plain, frozen array, another one after each change.
 *
 * Events: `change` (detail: `items`, `changes`), `lock` (`action`, `pk`, `lock`), `status`, `end` (`error`).
 * `for await (const items of collection)` gives the newest array whenever there is one.
 */
export class Collection extends EventTarget {
  /** @param {Connection} connection @param {SubscribeOptions} options */
  constructor(connection, options) {
    super();
    /** @type {CollectionStatus} */
    this.status = "connecting";
    /** @type {readonly Item[]} */
    this.items = Object.freeze([]);
    /** Locks that there was news of, by key; after a reconnect none. @type {Map<Key, LockState>} */
    this.locks = new Map();
    this.options = options;
    this._connection = connection;
    this._replica = new Replica();
    this._id = 0;
    this._catching = false;
    this._retried = false;
    this._abort = () => this.close();
    options.signal?.addEventListener("abort", this._abort, { once: true });
    /** @type {ConcordError | null} */
    this._error = null;
    /** Resolves with this when the objects are there. @type {Promise<Collection>} */
    this.ready = new Promise((resolve, reject) => {
      this.addEventListener("status", () => this.status === "live" && resolve(this));
      this.addEventListener("end", () => reject(this._error ?? closed()), { once: true });
    });
    this.ready.catch(() => {}); // whoever waits for it is told; nobody has to
  }

  /** Return the object with a primary key. @param {Key} pk @returns {Item | undefined} */
  get(pk) {
    return this._replica.rows.get(pk)?.item;
  }

  /** Stop following. */
  close() {
    if (this.status !== "ended") this._connection._leave(this);
    this._end(null);
  }

  /** @returns {AsyncGenerator<readonly Item[]>} */
  async *[Symbol.asyncIterator]() {
    /** @type {readonly Item[] | null} */
    let seen = null;
    let wake = () => {};
    const told = () => wake();
    for (const type of ["status", "change", "end"]) this.addEventListener(type, told);
    try {
      while (true) {
        if (this._replica.complete && seen !== this.items) yield (seen = this.items);
        else if (this._error) throw this._error;
        else if (this.status === "ended") return;
        else await new Promise((resolve) => { wake = () => resolve(null); });
      }
    } finally {
      for (const type of ["status", "change", "end"]) this.removeEventListener(type, told);
    }
  }

  /** @param {CollectionStatus} status */
  _turn(status) {
    if (this.status === status || this.status === "ended") return;
    this.status = status;
    this.dispatchEvent(event("status", { status }));
  }

  _cut() {
    this._replica.cut();
    this.locks.clear();
    if (this.status === "live") this._turn("stale");
  }

  /** @param {any} frame */
  _take(frame) {
    const found = this._replica.take(frame);
    if (found?.changes.length) {
      const { order } = this.options;
      const rows = [...this._replica.rows].sort(([a, { item: x }], [b, { item: y }]) => order?.(x, y) || byKey(a, b));
      this.items = Object.freeze(rows.map(([, { item }]) => item));
      this.dispatchEvent(event("change", { items: this.items, changes: found.changes }));
    }
    for (const news of found?.locks ?? []) {
      if (news.lock.state === "free") this.locks.delete(news.pk);
      else this.locks.set(news.pk, news.lock);
      this.dispatchEvent(event("lock", news));
    }
    if (frame.type === "reset" && this.status === "live") this._turn("stale");
    else if (frame.type === "subscribed") this._catching = frame.how === "resumed"; // what was missed follows
    const current = found || (frame.type === "mark" && this._catching) || (frame.type === "subscribed" && frame.how === "live");
    if (current && this._replica.complete && !this._replica.joining) {
      this._catching = this._retried = false;
      this._turn("live");
    }
  }

  /** @param {ConcordError | null} error */
  _end(error) {
    if (this.status === "ended") return;
    this.options.signal?.removeEventListener("abort", this._abort);
    this._error = error;
    this._turn("ended");
    this.dispatchEvent(event("end", { error }));
  }
}

// ------------------------------------------------------------------------------------- the connection

const closed = () => new ConnectionError("The connection was closed.", { code: "closed" });

/**
 * A websocket that comes back. Events: `status` (detail: `status`; of `waiting` `after` in milliseconds, the `code` of
 * the close and the `reason`; of `closed` the `error`).
 */
export class Connection extends EventTarget {
  /** @param {string | URL} url @param {Options} [options] */
  constructor(url, options = {}) {
    super();
    /** @type {ConnectionStatus} */
    this.status = "connecting";
    this.options = { idempotency: true, base: 500, cap: 30_000, probe: 4000, ...options };
    this.url = socketURL(url);
    /** @type {Set<Collection>} */
    this._collections = new Set();
    /** @type {Map<number, any>} calls without an answer, in the order they were made */
    this._calls = new Map();
    /** @type {Map<number, Collection>} */
    this._followed = new Map();
    /** @type {Set<Lock>} */
    this._locks = new Set();
    this._ids = 0;
    this._attempt = 0;
    this._heard = 0;
    this._asked = 0;
    this._unacked = 0;
    this._rejected = false;
    /** @type {any} */
    this._socket = null;
    /** @type {any} */
    this._opening = null;
    /** @type {any} */
    this._welcome = null;
    /** @type {any} */
    this._timer = null;
    /** @type {any} */
    this._watch = null;
    /** @type {number | null} */
    this._after = null;
    this._onWake = () => this._wake();
    this._onOffline = () => this._socket && this._drop();
    /** @type {[any, string, () => void][]} */
    this._listening = [];
    const page = /** @type {any} */ (globalThis);
    this._listen(page, "online", this._onWake);
    this._listen(page, "pageshow", this._onWake);
    this._listen(page, "offline", this._onOffline);
    this._listen(page.document, "visibilitychange", () => page.document.visibilityState === "visible" && this._wake());
    this._listen(page.document, "resume", this._onWake);
    this._open();
  }

  /** Return the objects of a model, over the socket, or over HTTP where their address is given.
   * @param {string} model such as "todolist.Task"
   * @param {{ url?: string, key?: string }} [options] `key`: the view's lookup field, "id" by default */
  resource(model, options) {
    return new Resource(this, model, options);
  }

  /** Follow the objects of a view, of a group or one. @param {SubscribeOptions} options */
  subscribe(options) {
    options.signal?.throwIfAborted();
    const collection = new Collection(this, options);
    if (this.status === "closed") {
      queueMicrotask(() => collection._end(closed()));
      return collection;
    }
    this._collections.add(collection);
    if (this._welcome) this._follow(collection);
    return collection;
  }

  /** Do an action, as soon as there is a connection; a write is done once, however often it has to be sent.
   * @param {string} action @param {Record<string, any>} members `model`, `pk`, `data` and so on
   * @param {{ signal?: AbortSignal, late?: (answer: any) => void }} [options] `late` is given the answer to what was
   *   sent before it was given up
   * @returns {Promise<{ data: any, status: number, etag: string | null }>} */
  call(action, members, { signal, late } = {}) {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      if (this.status === "closed") throw closed();
      if (this._calls.size >= MAX_WAITING) {
        throw new ConnectionError(`${MAX_WAITING} calls wait for an answer already.`, { code: "too_many" });
      }
      const id = ++this._ids;
      const key = this.options.idempotency && !UNKEYED.has(action) ? { idempotency_key: uuid() } : {};
      const abort = () => {
        if (!this._calls.has(id)) return;
        if (late && call.sent) Object.assign(call, { resolve: (/** @type {any} */ value) => (settle(), late(value)), reject: settle });
        else this._calls.delete(id);
        reject(signal?.reason);
      };
      const settle = () => {
        this._calls.delete(id);
        signal?.removeEventListener("abort", abort);
      };
      signal?.addEventListener("abort", abort, { once: true });
      const text = JSON.stringify({ action, request_id: id, ...members, ...key });
      const call = { text, sent: 0, retried: false,
        repeatable: action === "break" ? false : UNKEYED.has(action) || "idempotency_key" in key,
        resolve: (/** @type {any} */ value) => (settle(), resolve(value)),
        reject: (/** @type {any} */ error) => (settle(), reject(error)) };
      this._calls.set(id, call);
      if (this._welcome) this._ask(call);
    });
  }

  /** Open a new socket now, with the protocols that the page gives now: somebody logged in or out, or a token is new. */
  reconnect() {
    if (this.status === "closed") return;
    this._after = null;
    this._attempt = 0;
    this._drop(1000, "reconnect");
    this._open();
  }

  /** Close for good: calls without an answer are rejected, collections end, locks run out. */
  close() {
    this._close(closed());
  }

  /** @param {any} target @param {string} type @param {() => void} listener */
  _listen(target, type, listener) {
    if (!target?.addEventListener) return;
    target.addEventListener(type, listener);
    this._listening.push([target, type, listener]);
  }

  /** @param {ConnectionStatus} status @param {any} [detail] */
  _turn(status, detail = {}) {
    this.status = status;
    this.dispatchEvent(event("status", { status, ...detail }));
  }

  async _open() {
    clearTimeout(this._timer);
    this._timer = null;
    this._turn("connecting");
    const attempt = (this._opening = {});
    this._asked = 0;
    this._heard = Date.now();
    this._watchOver(); // also over what the page takes to give its protocols
    try {
      const { protocols = [], WebSocket = globalThis.WebSocket } = this.options;
      const own = typeof protocols === "function" ? await protocols() : protocols;
      if (this._opening !== attempt || this.status === "closed") return;
      const socket = new WebSocket(this.url, ["concord.v1", ...own]);
      this._socket = socket;
      socket.onmessage = (/** @type {any} */ { data }) => socket === this._socket && this._hear(data);
      socket.onclose = (/** @type {any} */ { code, reason }) => socket === this._socket && this._gone(code, reason);
      // Node 20 tells of a handshake that was refused, or reached nobody, by this alone
      socket.onerror = () => socket === this._socket && socket.readyState !== 1 && this._gone(1006, "");
    } catch (error) {
      if (this._opening === attempt) this._gone(1006, String(error));
    }
  }

  /** Look now and then whether something is heard. A timer that comes late has slept with the page. */
  _watchOver() {
    clearTimeout(this._watch);
    const { probe } = this.options;
    this._watch = setTimeout(() => {
      const silent = Date.now() - this._heard;
      const patience = this._welcome ? (this._welcome.ping + this._welcome.pong) * 1000 : 2 * probe;
      if (this._asked ? Date.now() - this._asked >= probe : silent >= patience) this._drop();
      else this._watchOver();
    }, Math.min(1000, probe));
  }

  /** The page is awake, or the network another one: ask at once whether the socket still lives. */
  _wake() {
    const stuck = this.status === "connecting" && !this._socket && Date.now() - this._heard > this.options.probe;
    if (stuck || (this.status === "waiting" && this._after === null)) this._open();
    else if (this._welcome && !this._asked) {
      this._asked = Date.now();
      this._send({ action: "ping" });
    }
    for (const lock of this._locks) lock._check();
  }

  /** Give up a socket without waiting for its close. @param {number} [code] @param {string} [reason] */
  _drop(code = 1006, reason = "no answer") {
    const socket = this._socket;
    this._gone(code, reason);
    socket?.close();
  }

  /** @param {number} code @param {string} reason */
  _gone(code, reason) {
    if (this.status === "closed") return;
    this._socket = this._welcome = this._opening = null;
    clearTimeout(this._watch);
    this._followed.clear();
    clearTimeout(this._timer);
    for (const collection of [...this._collections]) collection._cut();
    for (const call of [...this._calls.values()]) {
      if (call.sent && !call.repeatable) call.reject(unknown());
    }
    if (/** @type {string} */ (this.status) === "closed") return; // by who was told just now
    const final = code >= 4400 && code < 4500 && code !== 4429;
    // a token that has run out gets one more chance, with those that the page gives now
    if (final && (code !== 4401 || typeof this.options.protocols !== "function" || this._rejected)) {
      this._close(new ConnectionError(reason || `The server closed the connection (${code}).`, { code: String(code) }));
      return;
    }
    this._rejected = code === 4401;
    const { base, cap } = this.options;
    const after = this._after ?? Math.random() * Math.min(cap, base * 2 ** Math.min(this._attempt++, 30));
    this._timer = setTimeout(() => {
      this._after = null;
      this._open();
    }, after);
    this._turn("waiting", { after, code, reason });
  }

  /** @param {ConcordError} error */
  _close(error) {
    if (this.status === "closed") return;
    const socket = this._socket;
    this._socket = this._welcome = this._opening = null;
    clearTimeout(this._timer);
    clearTimeout(this._watch);
    for (const [target, type, listener] of this._listening) target.removeEventListener(type, listener);
    this._turn("closed", { error });
    socket?.close(1000);
    for (const call of [...this._calls.values()]) call.reject(error);
    for (const collection of [...this._collections]) collection._end(error);
    this._collections.clear();
    for (const lock of [...this._locks]) lock._lose(error);
  }

  /** @param {any} frame */
  _send(frame) {
    if (this._socket?.readyState === 1) this._socket.send(typeof frame === "string" ? frame : JSON.stringify(frame));
  }

  /** @param {any} call */
  _ask(call) {
    if (call.sent && Date.now() - call.sent > KEY_LIFE) return call.reject(unknown());
    if (this._oversized(call.text)) {
      const { max_frame: limit } = this._welcome;
      return call.reject(new ConcordError(`This is too long: the server takes ${limit} bytes at once. Nothing was sent.`,
        { status: 413, code: "too_large" }));
    }
    call.sent ||= Date.now();
    this._send(call.text);
  }

  /** @param {string} text */
  _oversized(text) {
    const { max_frame: limit } = this._welcome;
    return text.length * 3 > limit && byteLength(text) > limit;
  }

  /** @param {Collection} collection */
  _follow(collection) {
    const { model, groupBy, value, query, arguments: kwargs, mode } = collection.options;
    const id = (collection._id = ++this._ids);
    this._followed.set(id, collection);
    const frame = { action: "subscribe", request_id: id, model, group_by: groupBy, value, query, arguments: kwargs,
      mode, snapshot: true };
    const text = JSON.stringify({ ...frame, ...collection._replica.resume() });
    this._send(this._oversized(text) ? frame : text);
  }

  /** @param {Collection} collection */
  _leave(collection) {
    this._collections.delete(collection);
    if (this._followed.delete(collection._id)) this._send({ action: "unsubscribe", request_id: collection._id });
  }

  /** @param {string} data */
  _hear(data) {
    this._heard = Date.now();
    this._asked = 0;
    const frame = JSON.parse(data);
    if (frame.type === undefined) this._answered(frame);
    else if (frame.type === "welcome") this._begin(frame);
    else if (frame.type === "ping") this._send({ action: "pong" });
    else if (frame.type === "bye") this._after = frame.reconnect ? frame.after_ms : null;
    else if (frame.type === "mark") for (const c of this._followed.values()) c._take(frame);
    else if (frame.type === "end" || frame.type === "error") this._ended(frame);
    else this._followed.get(frame.request_id)?._take(frame);
    for (const change of frame.changes ?? []) if (change.lock) this._lockNews(frame.request_id, change);
    if (frame.seq) this._acknowledge(frame.seq, data.length);
  }

  /** @param {any} welcome */
  _begin(welcome) {
    this._welcome = welcome;
    this._attempt = this._unacked = 0;
    this._rejected = false;
    for (const collection of this._collections) this._follow(collection);
    for (const call of [...this._calls.values()]) this._ask(call);
    this._turn("open");
    for (const lock of this._locks) lock._check();
  }

  /** @param {number} seq @param {number} size */
  _acknowledge(seq, size) {
    if (!this._welcome) return; // closed by who was told
    this._unacked += size * 3; // the window is of bytes: a character may have three
    if (this._unacked * 2 < this._welcome.window) return;
    this._unacked = 0;
    this._send({ action: "ack", seq });
  }

  /** @param {any} frame */
  _answered(frame) {
    const call = this._calls.get(frame.request_id);
    const { response_status: status, data, errors, etag = null, code = null } = frame;
    if (status < 400) call?.resolve({ data, status, etag });
    else if (status === 401 && call && !call.retried && this._mayKnowBetter()) {
      Object.assign(call, { retried: true, sent: 0 }); // refused, so not done
      this.reconnect();
    } else call?.reject(refusal(status, errors.length === 1 ? errors[0] : errors, code));
  }

  /** @param {any} frame */
  _ended(frame) {
    const collection = this._followed.get(frame.request_id);
    if (!collection) return;
    this._followed.delete(frame.request_id);
    if (frame.type === "end" && (frame.code === 410 || frame.code === 503)) {
      collection._cut();
      if (this._welcome && this._collections.has(collection)) this._follow(collection); // as the server asks for
      return;
    }
    if (frame.type === "end" && frame.code === 401 && !collection._retried && this._mayKnowBetter()) {
      collection._retried = true;
      this.reconnect();
      return;
    }
    this._collections.delete(collection);
    collection._end(refusal(frame.code, frame.message ?? "You may not follow this any more."));
  }

  /** Whether the page may have another token than the one that was refused. */
  _mayKnowBetter() {
    return typeof this.options.protocols === "function";
  }

  /** @param {number} id @param {any} change */
  _lockNews(id, change) {
    const collection = this._followed.get(id);
    const model = collection?.options.model.toLowerCase();
    for (const lock of this._locks) {
      const { model: own, key } = lock.resource;
      const pk = collection?.get(change.pk)?.[key] ?? change.pk;
      if (own.toLowerCase() === model && String(lock.pk) === String(pk)) lock._check(change.lock);
    }
  }
}

const unknown = () => new ConnectionError(
  "The connection was cut before the answer came: read the object to see whether this was done.", { code: "unknown_outcome" });
/** A random uuid, also on pages of plain http, which have no randomUUID(). */
const uuid = () => {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
};
const byteLength = (/** @type {string} */ text) => new TextEncoder().encode(text).length;

/** @param {string | URL} url */
function socketURL(url) {
  const found = new URL(url, globalThis.location?.href);
  found.protocol = found.protocol.replace(/^http/, "ws");
  found.hash = "";
  return found.href;
}

// --------------------------------------------------------------------------------- resources and locks

/** The objects of one model. What it returns are frozen objects that know their tag. */
export class Resource {
  /** @param {Connection} connection @param {string} model @param {{ url?: string, key?: string }} [options] */
  constructor(connection, model, { url, key = "id" } = {}) {
    this.model = model;
    this.key = key;
    this._connection = connection;
    this._url = url === undefined ? null : new URL(url.endsWith("/") ? url : `${url}/`, globalThis.location?.href);
  }

  /** @param {Key} pk @param {{ signal?: AbortSignal, query?: Record<string, any> }} [options] @returns {Promise<Item>} */
  async get(pk, options = {}) {
    const { data, etag } = await this._do("retrieve", { pk, query: options.query }, options);
    return itemOf(data, pk, etag);
  }

  /** Return the objects of a list, or of a page of it. They know their tags where the serializer has an
   * `ETagField` named `etag`; those of `subscribe` always do.
   * @param {Record<string, any>} [query] @param {{ signal?: AbortSignal }} [options] @returns {Promise<any>} */
  async list(query = {}, options = {}) {
    const { data } = await this._do("list", { query }, options);
    const items = (/** @type {any[]} */ rows) => rows.map((row) => itemOf(row, row[this.key], row.etag ?? null));
    return Array.isArray(data) ? items(data) : { ...data, results: items(data.results) };
  }

  /** @param {any} data @param {WriteOptions} [options] @returns {Promise<Item>} */
  async create(data, options = {}) {
    const made = await this._do("create", { data, query: options.query }, options);
    return itemOf(made.data, made.data?.[this.key], made.etag);
  }

  /** Change some fields. @param {Item | Key} target @param {any} data @param {WriteOptions} [options]
   * @returns {Promise<Item>} */
  patch(target, data, options = {}) {
    return this._write("patch", target, data, options);
  }

  /** Write the whole object. @param {Item | Key} target @param {any} data @param {WriteOptions} [options]
   * @returns {Promise<Item>} */
  update(target, data, options = {}) {
    return this._write("update", target, data, options);
  }

  /** @param {Item | Key} target @param {WriteOptions} [options] @returns {Promise<void>} */
  async delete(target, options = {}) {
    await this._write("delete", target, undefined, options);
  }

  /** Do an action of the view's own, on one object; returns what it answers.
   * @param {string} name @param {Item | Key} target @param {any} [data] @param {WriteOptions} [options] */
  async action(name, target, data, options = {}) {
    return (await this._change(name, target, data, options)).data;
  }

  /** Follow the objects, all of them, a group or one. @param {Omit<SubscribeOptions, "model">} [options] */
  subscribe(options = {}) {
    return this._connection.subscribe({ ...options, model: this.model });
  }

  /** Keep others from writing an object; the lock renews itself until it is released or lost.
   * @param {Item | Key} target
   * @param {{ ttl?: number | null, reason?: string, mode?: "hold" | "freeze", scope?: string | string[],
   *   id?: string, signal?: AbortSignal }} [options] `ttl` in seconds; a freeze lasts until it is released. `id`
   *   is a uuid: whoever asks with that of a lock of his own gets that lock again
   * @returns {Promise<Lock>} */
  async lock(target, { mode, ttl = mode === "freeze" ? null : 30, reason, scope, id = uuid(), signal } = {}) {
    const data = { ttl, reason, mode, scope, id };
    return this._locked("lock", target, data, ttl, signal);
  }

  /** End a lock that nobody keeps an object of: a freeze, or one of another tab. @param {Item | Key} target
   * @param {{ signal?: AbortSignal }} [options] @returns {Promise<void>} */
  async unlock(target, options = {}) {
    await this._do("unlock", { pk: named(target, this.key) }, options);
  }

  /** End somebody's lock and take it, for as long as the server gives; renewed with `ttl`. Needs the permission
   * `concord.break`. @param {Item | Key} target @param {{ ttl?: number, reason?: string, signal?: AbortSignal }} [options] */
  async takeOver(target, { ttl = 30, reason, signal } = {}) {
    return this._locked("break", target, { take: true, reason }, ttl, signal);
  }

  /** @param {string} action @param {Item | Key} target @param {any} data @param {number | null} ttl
   * @param {AbortSignal} [signal] */
  async _locked(action, target, data, ttl, signal) {
    const pk = named(target, this.key), begun = Date.now();
    // who gives up after it was sent gives the lock back
    const late = (/** @type {any} */ answer) => new Lock(this, pk, answer.data, ttl, begun).release().catch(() => {});
    const { data: state } = await this._do(action, { pk, data }, { signal, late });
    return new Lock(this, pk, state, ttl, begun);
  }

  /** @param {string} action @param {Item | Key} target @param {any} data @param {WriteOptions} options */
  async _write(action, target, data, options) {
    const { data: body, etag } = await this._change(action, target, data, options);
    return itemOf(body ?? {}, named(target, this.key), etag);
  }

  /** @param {string} action @param {Item | Key} target @param {any} data @param {WriteOptions} options */
  async _change(action, target, data, options) {
    const pk = named(target, this.key);
    const token = typeof options.lock === "object" ? options.lock.token : options.lock;
    const members = { pk, data, query: options.query, if_match: basis(target, options), lock_token: token };
    try {
      return await this._do(action, members, options);
    } catch (error) {
      if (error instanceof LockLostError && typeof options.lock === "object") options.lock._lose(error);
      if (error instanceof ConflictError) {
        error.mine = data;
        error.base = typeof target === "object" ? target : null;
        const { current, current_etag: etag } = error.body ?? {};
        error.theirs = current ? itemOf(current, pk, etag) : null;
      }
      throw error;
    }
  }

  /** @param {string} action @param {any} members
   * @param {{ signal?: AbortSignal, late?: (answer: any) => void }} options
   * @returns {Promise<{ data: any, status: number, etag: string | null }>} */
  async _do(action, members, { signal, late }) {
    if (!this._url) return this._connection.call(action, { model: this.model, ...members }, { signal, late });
    signal?.throwIfAborted();
    if (!late || !signal) return this._fetch(action, members, signal);
    const answer = this._fetch(action, members);
    return new Promise((resolve, reject) => {
      answer.then((value) => (signal.aborted ? late(value) : resolve(value)), reject);
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
  }

  /** @param {string} action @param {any} members @param {AbortSignal} [signal] */
  async _fetch(action, members, signal) {
    const { headers: given, fetch = globalThis.fetch } = this._connection.options;
    const [method, path] = addressOf(action, members.pk);
    const url = new URL(path, /** @type {URL} */ (this._url));
    for (const [name, value] of Object.entries(members.query ?? {})) url.searchParams.append(name, String(value));
    const headers = new Headers(typeof given === "function" ? await given() : given);
    headers.set("Accept", "application/json");
    if (members.data !== undefined) headers.set("Content-Type", "application/json");
    if (members.if_match) headers.set("If-Match", members.if_match);
    if (members.lock_token) headers.set("Lock-Token", members.lock_token);
    const token = /(?:^|; )csrftoken=([^;]+)/.exec(globalThis.document?.cookie ?? "")?.[1];
    if (token && url.origin === globalThis.location?.origin && !headers.has("X-CSRFToken")) headers.set("X-CSRFToken", token);
    const body = members.data === undefined ? undefined : JSON.stringify(members.data);
    // "no-cache": the browser asks with the tag it has, and shows its own copy where that is answered 304
    const lost = (/** @type {any} */ error) => {
      if (signal?.aborted) throw signal.reason;
      throw method === "GET" ? new ConnectionError(String(error), { code: "unreachable" }) : unknown();
    };
    const answer = await fetch(url, { method, headers, body, signal, cache: "no-cache" }).catch(lost);
    const json = /json/.test(answer.headers.get("Content-Type") ?? "");
    const data = json ? await answer.json().catch((error) => lost(error)) : null;
    if (!answer.ok) {
      const error = refusal(answer.status, data);
      error.retryAfter = Number(answer.headers.get("Retry-After")) || null;
      throw error;
    }
    const lock = answer.headers.get("Lock-Token");
    return { data: lock ? { ...data, lock_token: lock } : data, status: answer.status, etag: answer.headers.get("ETag") };
  }
}

/** @param {string} action @param {Key} [pk] @returns {[string, string]} the method, and the path below the list */
function addressOf(action, pk) {
  const one = pk === undefined ? "" : `${encodeURIComponent(pk)}/`;
  switch (action) {
    case "list": case "retrieve": return ["GET", one];
    case "create": return ["POST", ""];
    case "update": return ["PUT", one];
    case "patch": case "delete": return [action.toUpperCase(), one];
    case "lock_state": return ["GET", `${one}lock/`];
    case "lock": return ["POST", `${one}lock/`];
    case "renew": return ["PATCH", `${one}lock/`];
    case "unlock": return ["DELETE", `${one}lock/`];
    case "break": return ["POST", `${one}lock/break/`];
    default: return ["POST", `${one}${action}/`];
  }
}

/** A lock that is held. The event `lost` (detail: `error`) says that it is no more; writes with it are refused then. */
export class Lock extends EventTarget {
  /** @param {Resource} resource @param {Key} pk @param {any} state @param {number | null} ttl @param {number} begun */
  constructor(resource, pk, state, ttl, begun) {
    super();
    this.resource = resource;
    this.pk = pk;
    this.ttl = ttl;
    this.held = true;
    /** What makes a write one of this lock's holder, in this tab. @type {string} */
    this.token = state.lock_token;
    /** @type {LockState} */
    this.state = state;
    this._renewing = false;
    this._ends = this._due = 0;
    /** @type {any} */
    this._timer = null;
    /** @type {ConcordError | null} */
    this._trouble = null;
    resource._connection._locks.add(this);
    this._granted(state, begun);
  }

  /** Give the lock back. @returns {Promise<void>} */
  async release() {
    if (!this.held) return;
    this._stop();
    const members = { pk: this.pk, lock_token: this.token };
    await this.resource._do("unlock", members, {}).catch((error) => {
      if (!(error instanceof LockLostError)) throw error;
    });
  }

  /** @param {any} state @param {number} begun when it was asked for */
  _granted(state, begun) {
    this.state = state;
    // the server counted after we had asked: it ends no earlier there
    this._ends = state.expires_in === null ? Infinity : begun + state.expires_in * 1000;
    this._due = begun + (this._ends - begun) / 3;
    this._trouble = null;
    this._plan();
  }

  _plan() {
    clearTimeout(this._timer);
    if (!this.held || this._ends === Infinity) return;
    const next = Date.now() < this._due ? Math.min(this._due, this._ends) : this._ends;
    this._timer = setTimeout(() => this._check(), Math.min(Math.max(0, next - Date.now()), 3_600_000));
  }

  /** Renew where it is time, or where there is news that this lock may be gone. @param {any} [news] */
  _check(news) {
    if (!this.held) return;
    const doubtful = news && (!news.mine || news.generation !== this.state.generation);
    if (doubtful && this._ends === Infinity) this._lose(ended()); // nothing to renew
    else if (this._ends === Infinity) this._look();
    else if (Date.now() >= this._ends) this._lose(this._trouble ?? ranOut());
    else if (doubtful || Date.now() >= this._due) this._renew();
    else this._plan();
  }

  /** Read whether a lock without an end still stands: news of it are not made up for after a cut. */
  async _look() {
    const { data } = await this.resource._do("lock_state", { pk: this.pk }, {}).catch(() => ({ data: null }));
    if (this.held && data && (data.state === "free" || data.generation !== this.state.generation)) this._lose(ended());
  }

  async _renew() {
    this._plan();
    if (this._renewing) return;
    this._renewing = true;
    const begun = Date.now();
    const members = { pk: this.pk, data: { ttl: this.ttl }, lock_token: this.token };
    try {
      // whatever is not answered while the lock lasts comes too late
      const signal = this._ends === Infinity ? undefined : AbortSignal.timeout(Math.max(1, this._ends - begun));
      const { data } = await this.resource._do("renew", members, { signal });
      if (this.held) this._granted(data, begun);
    } catch (error) {
      if (!(error instanceof ConcordError)) this._due = Date.now() + 1000; // also what the page's own functions throw
      else if (error.code === "lock_limit") this._due = Infinity; // held for as long as is allowed: it runs out
      else if (error.status === 429) this._due = Date.now() + (error.retryAfter ?? 1) * 1000;
      else if (error.status >= 400 && error.status < 500) this._lose(error);
      else this._due = Date.now() + 1000;
      if (error instanceof ConcordError) this._trouble = error;
      this._plan();
    } finally {
      this._renewing = false;
    }
  }

  _stop() {
    this.held = false;
    clearTimeout(this._timer);
    this.resource._connection._locks.delete(this);
  }

  /** @param {ConcordError} error */
  _lose(error) {
    if (!this.held) return;
    this._stop();
    this.dispatchEvent(event("lost", { error }));
  }
}

const ended = () => new LockLostError("Somebody ended the lock.", { status: 412, code: "lock_lost" });
const ranOut = () => new LockLostError("The lock has run out.", { status: 412, code: "lock_lost" });

/**
 * Open a connection that comes back by itself.
 *
 * @param {string | URL} url of the websocket; http(s) and relative ones are understood
 * @param {Options} [options]
 */
export function connect(url, options) {
  return new Connection(url, options);
}
