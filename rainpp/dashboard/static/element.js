// Elements made of text: a value from the data never becomes markup.

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function fill(parent, ...children) {
  parent.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
}

// Text that has not changed is left alone: screen readers read what is set.
export function say(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

const WHOLE = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const SHORT = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });

export function number(value) {
  if (value === null || value === undefined) return "none";
  return Number.isInteger(value) ? WHOLE.format(value) : SHORT.format(value);
}

// Windows are in UTC, whatever clock the reader has.
export function time(milliseconds) {
  if (milliseconds === null || milliseconds === undefined) return "";
  const at = new Date(milliseconds);
  if (Number.isNaN(at.getTime())) return "";
  const text = at.toISOString();
  const seconds = text.slice(17, 19) === "00" ? "" : text.slice(16, 19);
  return `${text.slice(0, 10)} ${text.slice(11, 16)}${seconds}`;
}

export function clock(milliseconds) {
  return time(milliseconds).slice(11);
}

export function ago(seconds) {
  if (seconds < 90) return `${Math.max(0, Math.round(seconds))} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${Math.round(seconds / 3600)} h`;
}

export function named(group) {
  return group.map(([name, value]) => `${name} = ${value}`).join(", ");
}
