// Training rows as a table: what to do to each, what it does, and the row itself where it is known.

import { element, number } from "/static/element.js";

const HEADS = [
  ["training row", false],
  ["change", false],
  ["effect", true],
  ["added up", true],
  ["plausible", true],
  ["score", true],
];

export function rowsTable(found) {
  const head = element(
    "tr",
    {},
    ...HEADS.map(([name, right]) => element("th", { scope: "col", class: right && "number" }, name)),
  );
  const body = found.top.map((line) =>
    element(
      "tr",
      {},
      element("td", {}, thing(line)),
      element("td", {}, change(line)),
      cell(signed(line.effect)),
      cell(signed(line.cumulative_effect)),
      cell(line.plausibility === null ? "" : `${Math.round(100 * line.plausibility)} %`),
      cell(number(line.score)),
    ),
  );
  return element(
    "div",
    {},
    element(
      "p",
      { class: "note" },
      `The best ${found.top.length} of ${number(found.interventions)} changes of ` +
        `${number(found.training_rows)} training rows; effects in units of the query, each alone.`,
    ),
    element(
      "div",
      { class: "scroll", tabindex: "0", role: "region", "aria-label": "Training rows behind it" },
      element(
        "table",
        { class: "training" },
        element("thead", {}, head),
        element("tbody", {}, ...body),
      ),
    ),
  );
}

function cell(text) {
  return element("td", { class: "number" }, text);
}

function signed(value) {
  return value === null ? "" : `${value > 0 ? "+" : ""}${number(value)}`;
}

function change(line) {
  if (line.intervention === "delete") return "delete";
  if (line.intervention === "relabel") return `label ${line.label} to ${line.detail}`;
  return `${line.intervention} ${line.detail ?? ""}`;
}

function thing(line) {
  const label = line.label === null ? "" : `, label ${line.label}`;
  const parts = [];
  if (line.picture) parts.push(picture(line));
  else if (line.numbers) {
    const more = line.more > line.numbers.length ? ", ..." : "";
    parts.push(element("span", { class: "quiet" }, line.numbers.map(number).join(", ") + more));
  }
  parts.unshift(element("span", {}, `${line.train_id}${label}`));
  if (line.picture) parts.reverse();
  return element("span", { class: "thing" }, ...parts);
}

function picture(line) {
  const { width, height, channels } = line;
  const canvas = element("canvas", {
    width,
    height,
    role: "img",
    "aria-label": `Picture of training row ${line.train_id}`,
  });
  const bytes = Uint8Array.from(atob(line.picture), (letter) => letter.charCodeAt(0));
  const pixels = new ImageData(width, height);
  for (let at = 0; at < width * height; at += 1) {
    const from = at * channels;
    for (let colour = 0; colour < 3; colour += 1) {
      pixels.data[4 * at + colour] = bytes[from + (channels >= 3 ? colour : 0)];
    }
    pixels.data[4 * at + 3] = channels === 4 ? bytes[from + 3] : 255;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}
