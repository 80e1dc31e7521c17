// The stream of the server, and where its events go.

import { Alarms } from "/static/alarms.js";
import { Card } from "/static/card.js";
import { say } from "/static/element.js";

const cards = new Map();
const connection = document.getElementById("connection");
const alarms = new Alarms((alarm) => {
  const card = cards.get(alarm.monitor);
  if (!card) return;
  card.complaint.explain(alarm);
  card.complaint.root.scrollIntoView({ block: "nearest" });
});
let waiting = false;

function card(name) {
  let found = cards.get(name);
  if (!found) {
    cards.set(name, (found = new Card(name)));
    document.getElementById("queries").append(found.root);
  }
  return found;
}

function tell(status) {
  card(status.monitor).tell(status, status.now - Date.now());
}

function take({ changes, alarms: raised }, isNew) {
  for (const change of changes) card(change.monitor).take(change);
  for (const alarm of raised) alarms.take(alarm, isNew);
  if (raised.length) for (const each of cards.values()) each.alarms(alarms.all);
  draw();
}

// However many events came, the page is drawn once a frame.
function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    for (const each of cards.values()) if (each.dirty) each.draw();
    alarms.draw();
  });
}

function show(text, kind) {
  say(connection, text);
  connection.className = `badge ${kind}`;
}

let stream = null;

// A browser goes on by itself after a lost connection, but not after an answer that is none.
function connect() {
  stream = new EventSource("/stream");
  stream.addEventListener("open", () => show("connected", "good"));
  stream.addEventListener("error", () => {
    if (stream.readyState !== EventSource.CLOSED) {
      show("connection lost, trying again", "bad");
      return;
    }
    show("refused by the server, trying again; reload to sign in", "bad");
    setTimeout(connect, 5000);
  });
  stream.addEventListener("snapshot", (event) => {
    alarms.forget();
    for (const each of cards.values()) each.reset();
    for (const monitor of JSON.parse(event.data).monitors) {
      tell(monitor.status);
      take(monitor, false);
    }
  });
  stream.addEventListener("changes", (event) => take(JSON.parse(event.data), true));
  stream.addEventListener("status", (event) => tell(JSON.parse(event.data)));
}

connect();
setInterval(() => {
  for (const each of cards.values()) each.beat();
}, 1000);
addEventListener("pagehide", () => stream.close());
addEventListener("pageshow", (event) => {
  if (event.persisted) connect();
});
