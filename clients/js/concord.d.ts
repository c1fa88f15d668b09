/** @param {number} status @param {any} body @param {string | null} [code] @returns {ConcordError} */
export function refusal(status: number, body: any, code?: string | null): ConcordError;
/**
 * Open a connection that comes back by itself.
 *
 * @param {string | URL} url of the websocket; http(s) and relative ones are understood
 * @param {Options} [options]
 */
export function connect(url: string | URL, options?: Options): Connection;
/** The request was refused, or its fate is not known. */
export class ConcordError extends Error {
    /** @param {string} detail @param {{ status?: number, code?: string | null, body?: any }} [about] */
    constructor(detail: string, { status, code, body }?: {
        status?: number;
        code?: string | null;
        body?: any;
    });
    /** The HTTP status, over the socket too; 0 where there was no answer. @type {number} */
    status: number;
    /** What programs branch on. @type {string | null} */
    code: string | null;
    /** What the server said. @type {any} */
    body: any;
    /** When trying again may help, in seconds. @type {number | null} */
    retryAfter: number | null;
}
/** 400: what was sent is not valid; `fields` has the texts by field. */
export class ValidationError extends ConcordError {
    /** @type {Record<string, string[]>} */
    get fields(): Record<string, string[]>;
}
/** 401, 403: this user may not do that. */
export class ForbiddenError extends ConcordError {
}
/** 404: there is no such object, or this user may not see it. */
export class NotFoundError extends ConcordError {
}
/** 409: a lock stops this write. */
export class LockedError extends ConcordError {
    /** Who has it, as far as this user may know. @type {string | null} */
    get holder(): string | null;
    /** @type {string} */
    get reason(): string;
    /** Since when, as ISO 8601. @type {string | null} */
    get since(): string | null;
    /** @type {string | null} */
    get expiresAt(): string | null;
    /** Whether this user has it, in another tab or program. @type {boolean} */
    get mine(): boolean;
}
/** 412: the object was changed since it was read; nothing was written. */
export class ConflictError extends ConcordError {
    /** What was to be written. @type {any} */
    mine: any;
    /** The object as it is now; write it with `patch(error.theirs, ...)`. @type {Item | null} */
    theirs: Item | null;
    /** The object that the write was based on. @type {Item | null} */
    base: Item | null;
    /** Names of the fields that changed since; null when that is not known. @type {string[] | null} */
    get changed(): string[] | null;
    /** Those of them that the write has too. @type {string[] | null} */
    get conflicting(): string[] | null;
    /** Who changed it last, as far as the view tells. @type {string | null} */
    get by(): string | null;
    /** When, as ISO 8601. @type {string | null} */
    get at(): string | null;
}
/** 412: the lock that the write relies on is not held any more. */
export class LockLostError extends ConcordError {
}
/** There was no answer: the connection is closed for good, or the fate of a write is not known. */
export class ConnectionError extends ConcordError {
}
export function etagOf(item: Item): string | null;
export function keyOf(item: Item): Key | undefined;
/** One subscription's copy of the server's objects: frames go in, states come out. It does no IO. */
export class Replica {
    /** @type {Map<Key, { item: Item, version: number | null }>} */
    rows: Map<Key, {
        item: Item;
        version: number | null;
    }>;
    /** Where to resume from: what was taken in up to here is complete. @type {{ epoch: string, position: string } | null} */
    since: {
        epoch: string;
        position: string;
    } | null;
    /** Whether `rows` have been complete once. */
    complete: boolean;
    /** @type {Map<Key, { item: Item, version: number | null }> | null} */
    _fresh: Map<Key, {
        item: Item;
        version: number | null;
    }> | null;
    /** @type {{ epoch: string, position: string } | null} */
    _next: {
        epoch: string;
        position: string;
    } | null;
    /** @type {any[]} */
    _held: any[];
    /** Versions of what is gone, the latest thousand: an older state brings nothing back. @type {Map<Key, number>} */
    _gone: Map<Key, number>;
    /** Whether a snapshot is on its way. */
    get joining(): boolean;
    /** Forget what was taken in by half: the connection is gone. */
    cut(): void;
    /** Return what the frame `subscribe` says of this copy; nothing where all is to be sent again.
     * @returns {{ since?: { epoch: string, position: string }, have?: Key[] }} */
    resume(): {
        since?: {
            epoch: string;
            position: string;
        };
        have?: Key[];
    };
    /** Take a frame in. @param {any} frame
     * @returns {{ changes: Change[], locks: any[] } | null} what is different now; null where nothing is shown yet */
    take(frame: any): {
        changes: Change[];
        locks: any[];
    } | null;
    /** @param {Map<Key, { item: Item, version: number | null }>} fresh */
    _swap(fresh: Map<Key, {
        item: Item;
        version: number | null;
    }>): {
        changes: ({
            action: string;
            pk: Key;
            item: null;
            before: Readonly<Record<string, any>>;
        } | {
            action: string;
            pk: Key;
            item: Readonly<Record<string, any>>;
            before: Readonly<Record<string, any>> | null;
        })[];
        locks: never[];
    };
    /** @param {any[]} told */
    _apply(told: any[]): {
        changes: Change[];
        locks: any[];
    };
    /** @param {Key} pk @param {number} version */
    _bury(pk: Key, version: number): void;
}
/**
 * Objects that follow the server. `items` is a plain, frozen array, another one after each change.
 *
 * Events: `change` (detail: `items`, `changes`), `lock` (`action`, `pk`, `lock`), `status`, `end` (`error`).
 * `for await (const items of collection)` gives the newest array whenever there is one.
 */
export class Collection extends EventTarget {
    /** @param {Connection} connection @param {SubscribeOptions} options */
    constructor(connection: Connection, options: SubscribeOptions);
    /** @type {CollectionStatus} */
    status: CollectionStatus;
    /** @type {readonly Item[]} */
    items: readonly Item[];
    /** Locks that there was news of, by key; after a reconnect none. @type {Map<Key, LockState>} */
    locks: Map<Key, LockState>;
    options: SubscribeOptions;
    _connection: Connection;
    _replica: Replica;
    _id: number;
    _catching: boolean;
    _retried: boolean;
    _abort: () => void;
    /** @type {ConcordError | null} */
    _error: ConcordError | null;
    /** Resolves with this when the objects are there. @type {Promise<Collection>} */
    ready: Promise<Collection>;
    /** Return the object with a primary key. @param {Key} pk @returns {Item | undefined} */
    get(pk: Key): Item | undefined;
    /** Stop following. */
    close(): void;
    /** @param {CollectionStatus} status */
    _turn(status: CollectionStatus): void;
    _cut(): void;
    /** @param {any} frame */
    _take(frame: any): void;
    /** @param {ConcordError | null} error */
    _end(error: ConcordError | null): void;
    /** @returns {AsyncGenerator<readonly Item[]>} */
    [Symbol.asyncIterator](): AsyncGenerator<readonly Item[]>;
}
/**
 * A websocket that comes back. Events: `status` (detail: `status`; of `waiting` `after` in milliseconds, the `code` of
 * the close and the `reason`; of `closed` the `error`).
 */
export class Connection extends EventTarget {
    /** @param {string | URL} url @param {Options} [options] */
    constructor(url: string | URL, options?: Options);
    /** @type {ConnectionStatus} */
    status: ConnectionStatus;
    options: {
        protocols?: string[] | (() => string[] | Promise<string[]>);
        headers?: HeadersInit | (() => HeadersInit | Promise<HeadersInit>);
        idempotency: boolean;
        WebSocket?: any;
        fetch?: typeof fetch;
        base: number;
        cap: number;
        probe: number;
    };
    url: string;
    /** @type {Set<Collection>} */
    _collections: Set<Collection>;
    /** @type {Map<number, any>} calls without an answer, in the order they were made */
    _calls: Map<number, any>;
    /** @type {Map<number, Collection>} */
    _followed: Map<number, Collection>;
    /** @type {Set<Lock>} */
    _locks: Set<Lock>;
    _ids: number;
    _attempt: number;
    _heard: number;
    _asked: number;
    _unacked: number;
    _rejected: boolean;
    /** @type {any} */
    _socket: any;
    /** @type {any} */
    _opening: any;
    /** @type {any} */
    _welcome: any;
    /** @type {any} */
    _timer: any;
    /** @type {any} */
    _watch: any;
    /** @type {number | null} */
    _after: number | null;
    _onWake: () => void;
    _onOffline: () => any;
    /** @type {[any, string, () => void][]} */
    _listening: [any, string, () => void][];
    /** Return the objects of a model, over the socket, or over HTTP where their address is given.
     * @param {string} model such as "todolist.Task"
     * @param {{ url?: string, key?: string }} [options] `key`: the view's lookup field, "id" by default */
    resource(model: string, options?: {
        url?: string;
        key?: string;
    }): Resource;
    /** Follow the objects of a view, of a group or one. @param {SubscribeOptions} options */
    subscribe(options: SubscribeOptions): Collection;
    /** Do an action, as soon as there is a connection; a write is done once, however often it has to be sent.
     * @param {string} action @param {Record<string, any>} members `model`, `pk`, `data` and so on
     * @param {{ signal?: AbortSignal, late?: (answer: any) => void }} [options] `late` is given the answer to what was
     *   sent before it was given up
     * @returns {Promise<{ data: any, status: number, etag: string | null }>} */
    call(action: string, members: Record<string, any>, { signal, late }?: {
        signal?: AbortSignal;
        late?: (answer: any) => void;
    }): Promise<{
        data: any;
        status: number;
        etag: string | null;
    }>;
    /** Open a new socket now, with the protocols that the page gives now: somebody logged in or out, or a token is new. */
    reconnect(): void;
    /** Close for good: calls without an answer are rejected, collections end, locks run out. */
    close(): void;
    /** @param {any} target @param {string} type @param {() => void} listener */
    _listen(target: any, type: string, listener: () => void): void;
    /** @param {ConnectionStatus} status @param {any} [detail] */
    _turn(status: ConnectionStatus, detail?: any): void;
    _open(): Promise<void>;
    /** Look now and then whether something is heard. A timer that comes late has slept with the page. */
    _watchOver(): void;
    /** The page is awake, or the network another one: ask at once whether the socket still lives. */
    _wake(): void;
    /** Give up a socket without waiting for its close. @param {number} [code] @param {string} [reason] */
    _drop(code?: number, reason?: string): void;
    /** @param {number} code @param {string} reason */
    _gone(code: number, reason: string): void;
    /** @param {ConcordError} error */
    _close(error: ConcordError): void;
    /** @param {any} frame */
    _send(frame: any): void;
    /** @param {any} call */
    _ask(call: any): any;
    /** @param {string} text */
    _oversized(text: string): boolean;
    /** @param {Collection} collection */
    _follow(collection: Collection, ...args: any[]): void;
    /** @param {Collection} collection */
    _leave(collection: Collection): void;
    /** @param {string} data */
    _hear(data: string): void;
    /** @param {any} welcome */
    _begin(welcome: any): void;
    /** @param {number} seq @param {number} size */
    _acknowledge(seq: number, size: number): void;
    /** @param {any} frame */
    _answered(frame: any): void;
    /** @param {any} frame */
    _ended(frame: any): void;
    /** Whether the page may have another token than the one that was refused. */
    _mayKnowBetter(): boolean;
    /** @param {number} id @param {any} change */
    _lockNews(id: number, change: any): void;
}
/** The objects of one model. What it returns are frozen objects that know their tag. */
export class Resource {
    /** @param {Connection} connection @param {string} model @param {{ url?: string, key?: string }} [options] */
    constructor(connection: Connection, model: string, { url, key }?: {
        url?: string;
        key?: string;
    });
    model: string;
    key: string;
    _connection: Connection;
    _url: URL | null;
    /** @param {Key} pk @param {{ signal?: AbortSignal, query?: Record<string, any> }} [options] @returns {Promise<Item>} */
    get(pk: Key, options?: {
        signal?: AbortSignal;
        query?: Record<string, any>;
    }): Promise<Item>;
    /** Return the objects of a list, or of a page of it. They know their tags where the serializer has an
     * `ETagField` named `etag`; those of `subscribe` always do.
     * @param {Record<string, any>} [query] @param {{ signal?: AbortSignal }} [options] @returns {Promise<any>} */
    list(query?: Record<string, any>, options?: {
        signal?: AbortSignal;
    }): Promise<any>;
    /** @param {any} data @param {WriteOptions} [options] @returns {Promise<Item>} */
    create(data: any, options?: WriteOptions): Promise<Item>;
    /** Change some fields. @param {Item | Key} target @param {any} data @param {WriteOptions} [options]
     * @returns {Promise<Item>} */
    patch(target: Item | Key, data: any, options?: WriteOptions): Promise<Item>;
    /** Write the whole object. @param {Item | Key} target @param {any} data @param {WriteOptions} [options]
     * @returns {Promise<Item>} */
    update(target: Item | Key, data: any, options?: WriteOptions): Promise<Item>;
    /** @param {Item | Key} target @param {WriteOptions} [options] @returns {Promise<void>} */
    delete(target: Item | Key, options?: WriteOptions): Promise<void>;
    /** Do an action of the view's own, on one object; returns what it answers.
     * @param {string} name @param {Item | Key} target @param {any} [data] @param {WriteOptions} [options] */
    action(name: string, target: Item | Key, data?: any, options?: WriteOptions): Promise<any>;
    /** Follow the objects, all of them, a group or one. @param {Omit<SubscribeOptions, "model">} [options] */
    subscribe(options?: Omit<SubscribeOptions, "model">): Collection;
    /** Keep others from writing an object; the lock renews itself until it is released or lost.
     * @param {Item | Key} target
     * @param {{ ttl?: number | null, reason?: string, mode?: "hold" | "freeze", scope?: string | string[],
     *   id?: string, signal?: AbortSignal }} [options] `ttl` in seconds; a freeze lasts until it is released. `id`
     *   is a uuid: whoever asks with that of a lock of his own gets that lock again
     * @returns {Promise<Lock>} */
    lock(target: Item | Key, { mode, ttl, reason, scope, id, signal }?: {
        ttl?: number | null;
        reason?: string;
        mode?: "hold" | "freeze";
        scope?: string | string[];
        id?: string;
        signal?: AbortSignal;
    }): Promise<Lock>;
    /** End a lock that nobody keeps an object of: a freeze, or one of another tab. @param {Item | Key} target
     * @param {{ signal?: AbortSignal }} [options] @returns {Promise<void>} */
    unlock(target: Item | Key, options?: {
        signal?: AbortSignal;
    }): Promise<void>;
    /** End somebody's lock and take it, for as long as the server gives; renewed with `ttl`. Needs the permission
     * `concord.break`. @param {Item | Key} target @param {{ ttl?: number, reason?: string, signal?: AbortSignal }} [options] */
    takeOver(target: Item | Key, { ttl, reason, signal }?: {
        ttl?: number;
        reason?: string;
        signal?: AbortSignal;
    }): Promise<Lock>;
    /** @param {string} action @param {Item | Key} target @param {any} data @param {number | null} ttl
     * @param {AbortSignal} [signal] */
    _locked(action: string, target: Item | Key, data: any, ttl: number | null, signal?: AbortSignal): Promise<Lock>;
    /** @param {string} action @param {Item | Key} target @param {any} data @param {WriteOptions} options */
    _write(action: string, target: Item | Key, data: any, options: WriteOptions): Promise<Readonly<Record<string, any>>>;
    /** @param {string} action @param {Item | Key} target @param {any} data @param {WriteOptions} options */
    _change(action: string, target: Item | Key, data: any, options: WriteOptions): Promise<{
        data: any;
        status: number;
        etag: string | null;
    }>;
    /** @param {string} action @param {any} members
     * @param {{ signal?: AbortSignal, late?: (answer: any) => void }} options
     * @returns {Promise<{ data: any, status: number, etag: string | null }>} */
    _do(action: string, members: any, { signal, late }: {
        signal?: AbortSignal;
        late?: (answer: any) => void;
    }): Promise<{
        data: any;
        status: number;
        etag: string | null;
    }>;
    /** @param {string} action @param {any} members @param {AbortSignal} [signal] */
    _fetch(action: string, members: any, signal?: AbortSignal): Promise<{
        data: any;
        status: number;
        etag: string | null;
    }>;
}
/** A lock that is held. The event `lost` (detail: `error`) says that it is no more; writes with it are refused then. */
export class Lock extends EventTarget {
    /** @param {Resource} resource @param {Key} pk @param {any} state @param {number | null} ttl @param {number} begun */
    constructor(resource: Resource, pk: Key, state: any, ttl: number | null, begun: number);
    resource: Resource;
    pk: Key;
    ttl: number | null;
    held: boolean;
    /** What makes a write one of this lock's holder, in this tab. @type {string} */
    token: string;
    /** @type {LockState} */
    state: LockState;
    _renewing: boolean;
    _ends: number;
    _due: number;
    /** @type {any} */
    _timer: any;
    /** @type {ConcordError | null} */
    _trouble: ConcordError | null;
    /** Give the lock back. @returns {Promise<void>} */
    release(): Promise<void>;
    /** @param {any} state @param {number} begun when it was asked for */
    _granted(state: any, begun: number): void;
    _plan(): void;
    /** Renew where it is time, or where there is news that this lock may be gone. @param {any} [news] */
    _check(news?: any): void;
    /** Read whether a lock without an end still stands: news of it are not made up for after a cut. */
    _look(): Promise<void>;
    _renew(): Promise<void>;
    _stop(): void;
    /** @param {ConcordError} error */
    _lose(error: ConcordError): void;
}
/**
 * The value of the view's lookup field; in a collection, the primary key.
 */
export type Key = string | number;
/**
 * An object of the API; frozen, and it knows its tag.
 */
export type Item = Readonly<Record<string, any>>;
/**
 * The body of `GET .../lock/`.
 */
export type LockState = {
    state: string;
    mine: boolean;
    mode: string | null;
    scope: string | string[] | null;
    reason: string;
    holder: string | null;
    acquired_at: string | null;
    expires_at: string | null;
    expires_in: number | null;
    generation: number;
};
/**
 * `stale`: the items are those of before the cut.
 */
export type CollectionStatus = "connecting" | "live" | "stale" | "ended";
export type ConnectionStatus = "connecting" | "open" | "waiting" | "closed";
export type Change = {
    action: string;
    pk: Key;
    item: Item | null;
    before: Item | null;
    reason?: string;
};
/**
 * `ifMatch: null` writes whatever the state is.
 */
export type WriteOptions = {
    signal?: AbortSignal;
    ifMatch?: string | null;
    lock?: Lock | string;
    query?: Record<string, any>;
};
export type SubscribeOptions = {
    model: string;
    groupBy?: string;
    value?: any;
    query?: Record<string, any>;
    arguments?: Record<string, any>;
    mode?: "state" | "events";
    order?: (a: Item, b: Item) => number;
    signal?: AbortSignal;
};
/**
 * `protocols` come beside `concord.v1`; `headers` go with each fetch; `idempotency: false` where people who
 * are not logged in may write. In milliseconds: `base` and `cap` bound the wait before a new attempt; `probe` is
 * how long a socket may take to open, or to say that it lives.
 */
export type Options = {
    protocols?: string[] | (() => string[] | Promise<string[]>);
    headers?: HeadersInit | (() => HeadersInit | Promise<HeadersInit>);
    idempotency?: boolean;
    WebSocket?: any;
    fetch?: typeof fetch;
    base?: number;
    cap?: number;
    probe?: number;
};
