/** A board: the lists, the tasks of one of them, and who is editing what. */
import { ConflictError, LockedError } from "../drf_concord/concord.js";
import { announce, find, make, title, toast } from "./dom.js";
import { choice, drafts, remember } from "./drafts.js";
import { Editor, orphaned } from "./editor.js";
import { followLocks } from "./locks.js";
import { rows } from "./rows.js";
import { broken, connection, sending } from "./session.js";

const lists = connection.resource("todolist.List");
const tasks = connection.resource("todolist.Task");
const everyList = lists.subscribe();

let list = null; // the key of the list that is shown
let live = null; // its tasks
let locks = new Map();
const mine = new Set(); // what this page did, and the news of it are still to come: they are none here
/** @type {Set<(change: any) => boolean>} */
const underWay = new Set(); // what it is doing: news of it may come before the answer

const table = rows(find("#tasks"), { open, toggle, lockOf: (pk) => locks.get(pk), hasDraft: (pk) => drafts.has(pk) });
const editor = new Editor(tasks, {
  current: (pk) => live?.get(pk),
  lockOf: (pk) => locks.get(pk),
  holding: () => find("#hold").checked,
  list: () => list,
  ours: (promise, { pk, text }) => ours(promise, text === undefined ? (change) => change.pk === pk : made(text)),
  shown: (pk) => table.show(pk),
  closed(pk) {
    // not back(): two boards on one page share their history, and the last step may be the other's
    if (place().task === pk) history.replaceState(null, "", `#list=${list}`);
    table.focus(pk);
  },
});

// ------------------------------------------------------------------- where we are: the address says it

function place() {
  const found = new URLSearchParams(location.hash.slice(1));
  return { list: Number(found.get("list")) || null, task: Number(found.get("task")) || null };
}

function go(to) {
  const hash = Object.entries(to).filter(([, value]) => value).map(([name, value]) => `${name}=${value}`).join("&");
  if (hash !== location.hash.slice(1)) history.pushState(null, "", `#${hash}`);
  arrive();
}

function arrive() {
  const there = place();
  const known = everyList.get(there.list) ?? everyList.items[0];
  if ((known?.id ?? null) !== list) show(known?.id ?? null);
  if (there.task === editor.pk) return;
  find("#conflict").close();
  if (there.task === null) editor.close();
  else if (live && live.status !== "connecting") editor.open(there.task);
}
addEventListener("popstate", arrive);

function open(pk) {
  go({ list, task: pk });
}

// ------------------------------------------------------------------------------------------ the lists

/** @type {Map<number, HTMLElement>} kept, so that none goes from under a finger */
const listRows = new Map();

function listRow(id) {
  const button = make("button", { type: "button" }, make("span", { className: "name" }),
    make("span", { className: "count" }), make("span", { className: "hidden" }, " to do"));
  button.addEventListener("click", () => go({ list: id }));
  return make("li", {}, button);
}

function showLists() {
  const box = find("#lists");
  for (const [id, element] of listRows) {
    if (!everyList.get(id)) (element.remove(), listRows.delete(id));
  }
  for (const [place, { id, name, tasks: all }] of everyList.items.entries()) {
    const element = listRows.get(id) ?? listRow(id);
    listRows.set(id, element);
    find(".name", element).textContent = name;
    find(".count", element).textContent = ` ${all.filter(({ done }) => !done).length}`;
    find("button", element).ariaCurrent = id === list ? "true" : null;
    if (box.children[place] !== element) box.insertBefore(element, box.children[place] ?? null);
  }
  const current = everyList.get(list);
  if (current) find("#list-title").textContent = current.name;
}

everyList.addEventListener("change", () => {
  showLists();
  if (everyList.get(list)) return;
  editor.changed(null); // its list is gone, and it with it
  arrive();
});
everyList.ready.then(() => (arrive(), showLists()), () => {});
everyList.addEventListener("end", ({ detail }) => trouble(detail.error));

function trouble(error) {
  if (!error) return; // it was left by this page itself
  broken();
  if (live?.items.length) return toast(`${error.message} What is shown here is not up to date any more.`, { seconds: Infinity });
  find("#list-title").textContent = "This board cannot be shown";
  find("#list").ariaBusy = "false";
  find("#empty").hidden = false;
  find("#empty").textContent = `${error.message} Reload the page to try again.`;
}

// ------------------------------------------------------------------------------------------ the tasks

function show(pk) {
  live?.close();
  table.clear();
  list = pk;
  live = null;
  locks = new Map();
  find("#add-task").hidden = pk === null;
  showLists();
  if (pk === null) {
    find("#list-title").textContent = "No lists yet";
    find("#new-list").open = true;
    return empty();
  }
  find("#list").ariaBusy = "true";
  const shown = (live = tasks.subscribe({ groupBy: "list_id", value: pk }));
  let before = true;
  shown.addEventListener("change", ({ detail }) => {
    const own = (change) => mine.delete(`${change.pk} ${change.action}`) || [...underWay].some((is) => is(change));
    const others = before ? [] : detail.changes.filter((change) => !own(change));
    table.render(detail.items, new Set(others.map((change) => change.pk)));
    for (const change of others) {
      const { text } = change.item ?? change.before;
      announce({ CREATED: `New: ${text}.`, DELETED: `Gone: ${text}.` }[change.action] ?? `Changed: ${text}.`);
    }
    empty();
    for (const { pk: key, action, reason } of detail.changes) {
      if (key === editor.pk) editor.changed(shown.get(key), reason);
      else if (action === "DELETED" && reason !== "left") lookAfter(key);
    }
  });
  locks = followLocks(shown, (key) => {
    table.show(key);
    const lock = locks.get(key);
    if (key === editor.pk) editor.locked(lock);
    else if (lock && !lock.mine) announce(`${title(lock.holder)} is editing ${shown.get(key)?.text ?? "a task"}.`);
  });
  shown.ready.then(() => {
    if (live !== shown) return;
    before = false;
    find("#list").ariaBusy = "false";
    empty();
    arrive();
    for (const key of drafts.keys()) if (!shown.get(key) && drafts.get(key).base.list === pk) lookAfter(key);
  }, () => {});
  shown.addEventListener("end", ({ detail: { error } }) => live === shown && trouble(error));
}

/** What was typed into a task that is gone is not gone with it. */
function lookAfter(key) {
  if (key !== editor.pk && drafts.has(key)) orphaned(key, () => editor.open(key), () => table.show(key));
}

function empty() {
  const line = find("#empty");
  line.hidden = live !== null && (live.items.length > 0 || live.status === "connecting");
  line.textContent = live === null ? "Make a list, and it is on the other board too." : "Nothing to do here. Write down the first thing below.";
}

/** Note that the next news of a task is of what this page did; `is` tells it from others until the answer comes. */
function ours(promise, is) {
  underWay.add(is);
  const done = () => underWay.delete(is);
  promise.then(done, done);
  return sending(promise).then((item) => {
    const shown = item && live?.get(item.id);
    if (item?.list === list && !shown) mine.add(`${item.id} CREATED`);
    else if (shown && JSON.stringify(shown) !== JSON.stringify(item)) mine.add(`${item.id} UPDATED`);
    return item;
  });
}

async function toggle(item, done) {
  let based = item;
  for (let attempt = 0; ; attempt++) {
    try {
      return await ours(tasks.patch(based, { done }), ({ pk }) => pk === item.id);
    } catch (error) {
      // somebody changed something else of it: ticking it off is still what was meant
      if (error instanceof ConflictError && error.theirs && !error.conflicting?.length && attempt < 3) based = error.theirs;
      else if (error instanceof ConflictError) return toast("Somebody else was faster; look at it as it is now.");
      else if (error instanceof LockedError) return toast(error.mine ? "You are editing this task elsewhere." : `${title(error.holder)} is editing this task, so it stays as it is.`);
      else return toast(`Not saved: ${error.message}`, { action: "Try again", act: () => toggle(live?.get(item.id) ?? based, done), seconds: 30 });
    }
  }
}

/** What a form adds is sent once, however often it is pressed; it stays in the form until it is there. */
function adds(form, name, send) {
  const input = find("input", form);
  const keep = remember(input, name);
  let busy = false;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = input.value.trim();
    if (busy || !text) return;
    busy = true;
    form.ariaBusy = "true";
    try {
      await send(text);
      if (input.value.trim() === text) input.value = "";
      keep();
    } catch (error) {
      toast(`Not added: ${error.fields?.[input.name]?.join(" ") ?? error.message}`);
    } finally {
      busy = false;
      form.ariaBusy = null;
    }
  });
}
adds(find("#add-task"), "new task", (text) => ours(tasks.create({ list, text }), made(text)));
adds(find("#add-list"), "new list", async (name) => {
  const made = await sending(lists.create({ name }));
  find("#new-list").open = false;
  await everyListHas(made.id);
  go({ list: made.id });
  return made;
});

/** Return what tells the news of a task that this page makes. */
function made(text) {
  return ({ action, item }) => action === "CREATED" && item.text === text;
}

function everyListHas(pk) {
  if (everyList.get(pk)) return null;
  return new Promise((done) => {
    const look = () => everyList.get(pk) && (everyList.removeEventListener("change", look), done());
    everyList.addEventListener("change", look);
  });
}

// how somebody likes to work is kept for him, not for the other one
const [hold, kept] = [find("#hold"), choice("hold", "yes")];
hold.checked = kept.get() !== "no";
hold.addEventListener("change", () => kept.set(hold.checked ? "yes" : "no"));
