/** The machine room: an operator locks a machine for maintenance, and nobody deletes it meanwhile. */
import { ConflictError, LockedError } from "../drf_concord/concord.js";
import { announce, find, make, time, title, toast } from "./dom.js";
import { remember } from "./drafts.js";
import { followLocks } from "./locks.js";
import { broken, connection, me, sending } from "./session.js";

const OPERATOR = "admin";
const machines = connection.resource("machines.Instance", { key: "uuid" });
const room = machines.subscribe({ order: (a, b) => a.id - b.id });
const locks = followLocks(room, (pk) => {
  const [lock, machine] = [locks.get(pk), room.get(pk)];
  if (machine) announce(lock ? `${machine.name} is locked: ${lock.reason}.` : `${machine.name} is free.`);
  show();
});
const button = (text, act, properties = {}) => {
  const made = make("button", { type: "button", ...properties }, text);
  made.addEventListener("click", act);
  return made;
};

function show() {
  const focused = document.activeElement?.dataset.focus;
  find("#machines").replaceChildren(...room.items.map(card));
  if (focused) find(`[data-focus="${CSS.escape(focused)}"]`)?.focus();
  find("#empty").hidden = room.items.length > 0 || room.status === "connecting";
}

function card(machine) {
  const lock = locks.get(machine.id);
  const acts = [button("Delete", () => remove(machine), { dataset: { focus: `delete ${machine.uuid}` }, ariaLabel: `Delete ${machine.name}` })];
  if (me === OPERATOR) {
    const [text, act] = lock ? ["End maintenance", end] : ["Lock for maintenance", maintain];
    acts.unshift(button(text, () => act(machine), { dataset: { focus: `lock ${machine.uuid}` }, ariaLabel: `${text}: ${machine.name}` }));
  }
  const about = lock && make("span", { className: "badge held" },
    `${title(lock.holder)}: ${lock.reason || "maintenance"}${lock.acquired_at ? `, since ${time(lock.acquired_at)}` : ""}`);
  return make("li", {},
    make("span", { className: "name" }, machine.name), " ", make("span", { className: "state" }, machine.state), " ", about ?? "",
    make("div", { className: "buttons" }, ...acts));
}

async function remove(machine) {
  try {
    await sending(machines.delete(machine));
    const { name, state } = machine;
    toast(`Deleted ${name}.`, { action: "Undo", act: () => add(name, state) });
  } catch (error) {
    if (error instanceof LockedError) {
      const why = error.reason ? `: ${error.reason}` : "";
      toast(`${machine.name} cannot be deleted. ${title(error.holder)} locked it${error.since ? ` at ${time(error.since)}` : ""}${why}.`, { seconds: 20 });
    } else if (error instanceof ConflictError) toast(`${machine.name} has changed meanwhile. Look at it, and delete it again.`);
    else toast(`Not deleted: ${error.message}`, { action: "Try again", act: () => remove(room.get(machine.id) ?? machine), seconds: 30 });
  }
}

const add = (name, state) =>
  sending(machines.create({ name, state })).catch((error) => {
    toast(`Not added: ${error.message}`, { action: "Try again", act: () => add(name, state), seconds: 30 });
    throw error;
  });

const dialog = find("#maintenance");
let chosen = null;
function maintain(machine) {
  chosen = machine;
  find("#maintenance-title").textContent = `Lock ${machine.name} for maintenance`;
  dialog.showModal();
}
find("button[value=close]", dialog).addEventListener("click", () => dialog.close());
find("form", dialog).addEventListener("submit", async () => {
  const [machine, reason] = [chosen, find("#reason").value.trim()];
  try {
    await sending(machines.lock(machine, { mode: "freeze", scope: "delete", reason }));
    find("#reason").value = "";
  } catch (error) {
    const who = error instanceof LockedError && error.holder ? ` ${title(error.holder)} has it already.` : "";
    toast(`${machine.name} is not locked: ${error.message}${who}`);
  }
});

function end(machine) {
  sending(machines.unlock(machine)).catch((error) => toast(`The maintenance of ${machine.name} goes on: ${error.message}`));
}

const form = find("#add-machine");
const input = find("input", form);
const keep = remember(input, "new machine");
let busy = false;
form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const name = input.value.trim();
  if (busy || !name) return;
  busy = true;
  await add(name, "active").then(() => (input.value = "", keep()), () => {});
  busy = false;
});

room.addEventListener("change", ({ detail }) => {
  show();
  if (room.status === "live") for (const { action, item, before } of detail.changes) announce(`${(item ?? before).name}: ${action.toLowerCase()}.`);
});
room.addEventListener("end", broken);
room.ready.then(() => {
  find("#room").textContent = "Instances";
  find("#room-section").ariaBusy = "false";
  form.hidden = false;
  show();
}, (error) => {
  find("#room").textContent = "The machines cannot be shown";
  find("#empty").hidden = false;
  find("#empty").textContent = `${error.message} Reload the page to try again.`;
});
