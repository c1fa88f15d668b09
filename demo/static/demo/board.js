/** A board: the lists, the tasks of one of them, and who is editing what. */
import { ConflictError, LockedError } from "../drf_concord/concord.js";
import { announce, find, make, title, toast } from "./dom.js";
import { drafts, remember } from "./drafts.js";
import { Editor } from "./editor.js";
import { followLocks } from "./locks.js";
import { rows } from "./rows.js";
import { connection, me, sending } from "./session.js";

const lists = connection.resource("todolist.List");
const tasks = connection.resource("todolist.Task");
const everyList = lists.subscribe();

let list = null; // the key of the list that is shown
let live = null; // its tasks
let locks = new Map();
const mine = new Set(); // keys of what this page wrote just now: it is no news here

const table = rows(find("#tasks"), { open, toggle, lockOf: (pk) => locks.get(pk), hasDraft: (pk) => drafts.has(pk) });
const editor = new Editor(tasks, {
  current: (pk) => live?.get(pk),
  lockOf: (pk) => locks.get(pk),
  holding: () => find("#hold").checked,
  list: () => list,
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
  if (there.task === null && editor.pk !== null) editor.dialog.close();
  else if (there.task !== null && live?.status === "live") editor.open(there.task);
}
addEventListener("popstate", arrive);

function open(pk) {
  go({ list, task: pk });
}

// ------------------------------------------------------------------------------------------ the lists

function showLists() {
  find("#lists").replaceChildren(
    ...everyList.items.map(({ id, name, tasks: all }) => {
      const left = all.filter(({ done }) => !done).length;
      const button = make("button", { type: "button" }, name, make("span", { className: "count" }, ` ${left}`, make("span", { className: "hidden" }, " to do")));
      if (id === list) button.ariaCurrent = "true";
      button.addEventListener("click", () => go({ list: id }));
      return make("li", {}, button);
    }),
  );
  const current = everyList.get(list);
  if (current) find("#list-title").textContent = current.name;
}

everyList.addEventListener("change", () => {
  const focused = [...find("#lists").children].findIndex((item) => item.contains(document.activeElement));
  showLists();
  if (focused >= 0) find("#lists").children[Math.min(focused, everyList.items.length - 1)]?.querySelector("button").focus();
  if (!everyList.get(list)) arrive();
});
everyList.ready.then(() => (arrive(), showLists()), (error) => trouble(error));

function trouble(error) {
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
    const others = before ? [] : detail.changes.filter((change) => !mine.delete(change.pk));
    table.render(detail.items, new Set(others.map((change) => change.pk)));
    for (const change of others) {
      const { text } = change.item ?? change.before;
      announce({ CREATED: `New: ${text}.`, DELETED: `Gone: ${text}.` }[change.action] ?? `Changed: ${text}.`);
    }
    empty();
    if (detail.changes.some((change) => change.pk === editor.pk)) editor.changed(shown.get(editor.pk));
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
  }, (error) => live === shown && trouble(error));
}

function empty() {
  const line = find("#empty");
  line.hidden = live !== null && (live.items.length > 0 || live.status === "connecting");
  line.textContent = live === null ? "Make a list, and it is on the other board too." : "Nothing to do here. Write down the first thing below.";
}

/** Note that the next news of an object is of what this page did. */
function ours(promise) {
  return sending(promise).then((item) => {
    if (live?.get(item.id) === undefined || JSON.stringify(live.get(item.id)) !== JSON.stringify(item)) mine.add(item.id);
    return item;
  });
}

async function toggle(item, done) {
  let based = item;
  for (let attempt = 0; ; attempt++) {
    try {
      return await ours(tasks.patch(based, { done }));
    } catch (error) {
      // somebody changed something else of it: ticking it off is still what was meant
      if (error instanceof ConflictError && error.theirs && !error.conflicting?.length && attempt < 3) based = error.theirs;
      else if (error instanceof ConflictError) return toast("Somebody else was faster; look at it as it is now.");
      else if (error instanceof LockedError) return toast(error.mine ? "You are editing this task elsewhere." : `${title(error.holder)} is editing this task, so it stays as it is.`);
      else return toast(`Not saved: ${error.message}`, "Try again", () => toggle(live?.get(item.id) ?? based, done), 30);
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
      await ours(send(text));
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
adds(find("#add-task"), "new task", (text) => tasks.create({ list, text }));
adds(find("#add-list"), "new list", async (name) => {
  const made = await lists.create({ name });
  find("#new-list").open = false;
  await everyListHas(made.id);
  go({ list: made.id });
  return made;
});

function everyListHas(pk) {
  if (everyList.get(pk)) return null;
  return new Promise((done) => {
    const look = () => everyList.get(pk) && (everyList.removeEventListener("change", look), done());
    everyList.addEventListener("change", look);
  });
}

// how somebody likes to work is kept for him, not for the other one
const hold = find("#hold");
hold.checked = localStorage.getItem(`concord ${me} hold`) !== "no";
hold.addEventListener("change", () => localStorage.setItem(`concord ${me} hold`, hold.checked ? "yes" : "no"));
