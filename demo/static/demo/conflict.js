/** Two people wrote the same task: what is to stand there now? */
import { find, make, time, title } from "./dom.js";

const LABELS = { text: "What", notes: "Notes", done: "Done" };
const shown = (value) => (typeof value === "boolean" ? (value ? "yes" : "no") : value || "(empty)");

/**
 * Ask what is to be written.
 *
 * @param {{ base: any, mine: any, theirs: any, by: string | null, at: string | null }} conflict the whole values of
 *   the task: where both began, what is to be saved, and what stands there now
 * @returns {Promise<{ save: boolean, values: any }>} what is to be written, of all fields; not to `save` it is to go on
 *   editing, with what was written into the fields for both
 */
export function resolve({ base, mine, theirs, by, at }) {
  const dialog = find("#conflict");
  const fields = Object.keys(LABELS).filter((name) => mine[name] !== theirs[name]);
  const changed = Object.keys(LABELS).filter((name) => base[name] !== theirs[name]).map((name) => LABELS[name]);
  find("#conflict-title").textContent = `${title(by)} saved this task while you were editing it`;
  find("#conflict-about").textContent =
    `Nothing is lost: yours is not saved yet, and theirs stands${at ? ` since ${time(at)}` : ""}.` +
    ` Changed there: ${changed.join(", ") || "nothing that you see"}. What shall be saved?`;
  find("#conflict-fields").replaceChildren(...fields.map((name) => field(name, base, mine, theirs, by)));

  return new Promise((done) => {
    let save = false;
    let values = mine;
    const form = find("form", dialog);
    const all = (which) => {
      for (const name of fields) find(`input[name="${name}"][value="${which}"]`, dialog).checked = true;
    };
    const click = ({ target }) => {
      if (target.value === "mine" || target.value === "theirs") all(target.value);
      else if (target.value === "back") dialog.close();
    };
    const submit = () => {
      save = true;
      values = { ...theirs };
      for (const name of fields) {
        const which = find(`input[name="${name}"]:checked`, dialog).value;
        values[name] = which === "both" ? find(`#both-${name}`).value : { mine, theirs }[which][name];
      }
    };
    /** Go back, and take along what was written for both. */
    const keep = () => {
      const both = fields.map((name) => find(`#both-${name}`, dialog)).filter((input) => input && input.value !== input.defaultValue);
      values = { ...mine, ...Object.fromEntries(both.map((input) => [input.dataset.field, input.value])) };
    };
    const buttons = [...dialog.querySelectorAll("button[type=button]")];
    for (const button of buttons) button.addEventListener("click", click);
    form.addEventListener("submit", submit);
    dialog.addEventListener("close", () => {
      for (const button of buttons) button.removeEventListener("click", click);
      form.removeEventListener("submit", submit);
      if (!save) keep();
      done({ save, values });
    }, { once: true });
    dialog.showModal();
  });
}

function field(name, base, mine, theirs, by) {
  // where only one of the two changed something, that is what is most likely wanted
  const likely = base[name] === theirs[name] ? "mine" : base[name] === mine[name] ? "theirs" : null;
  const option = (value, label, content) => {
    const id = `${value}-${name}-choice`;
    const radio = make("input", { type: "radio", name, value, id, required: true, checked: value === likely });
    return make("div", { className: "option" }, radio, make("label", { htmlFor: id }, make("b", {}, label), content));
  };
  const options = [
    option("mine", "Mine: ", make("span", { className: "value" }, shown(mine[name]))),
    option("theirs", `${by ? `${title(by)}’s` : "Theirs"}: `, make("span", { className: "value" }, shown(theirs[name]))),
  ];
  if (typeof mine[name] === "string") {
    const both = make(name === "notes" ? "textarea" : "input", { id: `both-${name}`, dataset: { field: name },
      defaultValue: merged(name, mine[name], theirs[name]), ariaLabel: `${LABELS[name]}, from both` });
    if (name === "text") both.maxLength = 140;
    else both.rows = 4;
    options.push(option("both", "Both, as I write it here:", ""), both);
    both.addEventListener("input", () => (find(`#both-${name}-choice`).checked = true));
  }
  return make("fieldset", {}, make("legend", {}, LABELS[name]), ...options);
}

/** Something to begin with where both are to stay. */
function merged(name, mine, theirs) {
  if (!mine || theirs.includes(mine)) return theirs;
  if (!theirs || mine.includes(theirs)) return mine;
  return name === "notes" ? `${theirs}\n${mine}` : `${theirs} / ${mine}`.slice(0, 140);
}
