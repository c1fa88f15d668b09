/** The rows of a list: one element for each task, changed in place so that the focus stays where it is. */
import { find, make, time, title } from "./dom.js";

/**
 * @param {HTMLElement} list
 * @param {{ open: (pk: any) => void, toggle: (item: any, done: boolean) => Promise<any>,
 *   lockOf: (pk: any) => any, hasDraft: (pk: any) => boolean }} acts
 */
export function rows(list, acts) {
  /** `saved` is what the server answered, until the list has news of it, which come after the answer.
   * @type {Map<any, { element: HTMLElement, item: any, saved: any, busy: boolean }>} */
  const known = new Map();

  function row(item) {
    const box = make("input", { type: "checkbox", id: `done-${item.id}` });
    const open = make("button", { type: "button", className: "open" },
      make("span", { className: "text" }), make("span", { className: "notes" }), make("span", { className: "badges" }));
    const element = make("li", { dataset: { pk: item.id } }, box, open);
    const mine = { element, item, saved: null, busy: false };
    box.addEventListener("change", async () => {
      if (mine.busy) return void (box.checked = !box.checked); // not disabled: that would take the focus away
      mine.busy = true;
      element.ariaBusy = "true";
      const before = mine.item;
      try {
        const saved = await acts.toggle(mine.saved ?? before, box.checked);
        if (mine.item === before) mine.saved = saved ?? mine.saved;
      } finally {
        mine.busy = false;
        element.ariaBusy = null;
        show(item.id);
      }
    });
    open.addEventListener("click", () => acts.open(item.id));
    return mine;
  }

  function show(pk) {
    const mine = known.get(pk);
    if (!mine) return;
    const { element, item, saved } = mine;
    const lock = acts.lockOf(pk);
    const box = find("input", element);
    if (!mine.busy) box.checked = (saved ?? item).done;
    box.ariaLabel = `Done: ${item.text}`;
    element.classList.toggle("done", (saved ?? item).done);
    find(".text", element).textContent = item.text;
    find(".notes", element).textContent = item.notes;
    const badges = [];
    if (lock && lock.mine) badges.push(make("span", { className: "badge mine" }, "You are editing"));
    else if (lock) {
      const since = lock.acquired_at ? ` since ${time(lock.acquired_at)}` : "";
      badges.push(make("span", { className: "badge held" }, `${title(lock.holder)} is editing${since}`));
    }
    if (acts.hasDraft(pk)) badges.push(make("span", { className: "badge draft" }, "Not saved yet"));
    find(".badges", element).replaceChildren(...badges);
  }

  return {
    show,
    /** Make the rows those of some items; `fresh` are the keys of what others changed just now. */
    render(items, fresh = new Set()) {
      const wanted = new Set(items.map(({ id }) => id));
      for (const [pk, { element }] of known) {
        if (wanted.has(pk)) continue;
        if (element.contains(document.activeElement)) (element.nextElementSibling ?? element.previousElementSibling)?.querySelector(".open")?.focus();
        element.remove();
        known.delete(pk);
      }
      let before = list.firstElementChild;
      for (const item of items) {
        const mine = known.get(item.id) ?? row(item);
        const isNew = !known.has(item.id) || mine.item !== item;
        if (isNew) mine.saved = null;
        mine.item = item;
        known.set(item.id, mine);
        if (mine.element === before) before = before.nextElementSibling;
        else list.insertBefore(mine.element, before);
        if (isNew) show(item.id);
        if (fresh.has(item.id)) {
          mine.element.classList.remove("fresh");
          void mine.element.offsetWidth; // begin the animation anew
          mine.element.classList.add("fresh");
        }
      }
    },
    clear() {
      known.clear();
      list.replaceChildren();
    },
    focus: (pk) => known.get(pk)?.element.querySelector(".open").focus(),
  };
}
