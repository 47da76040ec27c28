"use strict";
// Shows the scenes that come over the WebSocket; sends clicks and orders. See server.py for the messages.

const byId = (id) => document.getElementById(id);
const canvas = byId("picture");
const context = canvas.getContext("2d");
const TAIL = 24; // images

let socket = null;
let about = null;
let scene = null;
let picture = null;
let seeking = false;
let finished = false;
const tails = new Map();

function connect() {
  socket = new WebSocket(`ws://${location.host}/socket`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => setStatus("connected", false);
  socket.onclose = () => {
    setStatus(finished ? "done: this page can be closed" : "connection lost, trying again", !finished);
    if (!finished) setTimeout(connect, 1000);
  };
  socket.onmessage = (event) => (typeof event.data === "string" ? onText(JSON.parse(event.data)) : onScene(event.data));
}

function send(order) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(order));
}

function onText(message) {
  if (message.type === "error") return showMessage(message.message);
  about = message;
  byId("name").textContent = about.name;
  byId("play").hidden = about.kind === "live";
  byId("done").hidden = about.kind !== "pick";
  byId("seek").hidden = about.kind === "live" || !about.images;
  byId("seek").max = Math.max(0, about.images - 1);
  if (about.kind === "pick") byId("hint").textContent = "Click points in any image, then press Done: they are tracked afterwards.";
  send({ type: "ready" });
}

async function onScene(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const next = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const bitmap = await createImageBitmap(new Blob([new Uint8Array(buffer, 4 + length)], { type: "image/jpeg" }));
  if (picture) picture.close();
  picture = bitmap;
  remember(scene, next);
  scene = next;
  draw();
  list();
  send({ type: "ready" });
}

function remember(before, now) {
  const goesOn = before && (now.index === before.index || (now.index > before.index && now.index <= before.index + 8));
  if (!goesOn) tails.clear();
  if (before && goesOn && now.index === before.index) return;
  const places = new Set();
  for (const point of now.points) {
    places.add(point.id);
    if (!tails.has(point.id)) tails.set(point.id, []);
    const tail = tails.get(point.id);
    tail.push(point.state === "visible" && point.x !== null ? [point.x, point.y] : null);
    if (tail.length > TAIL) tail.shift();
  }
  for (const id of tails.keys()) if (!places.has(id)) tails.delete(id);
}

function draw() {
  if (canvas.width !== scene.width || canvas.height !== scene.height) {
    canvas.width = scene.width;
    canvas.height = scene.height;
    canvas.style.setProperty("--aspect", scene.width / scene.height); // the whole page fits the window
  }
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.drawImage(picture, 0, 0);
  context.translate(0.5, 0.5); // pixel centres are whole numbers
  const unit = Math.max(1, scene.width / 640);
  for (const point of scene.points) if (point.x !== null) drawPoint(point, unit);
}

function drawPoint(point, unit) {
  const tail = tails.get(point.id) || [];
  context.lineCap = "round";
  context.strokeStyle = point.colour;
  for (let i = 1; i < tail.length; i++) {
    if (!tail[i - 1] || !tail[i]) continue;
    context.globalAlpha = i / tail.length;
    context.lineWidth = 2.5 * unit;
    context.beginPath();
    context.moveTo(...tail[i - 1]);
    context.lineTo(...tail[i]);
    context.stroke();
  }
  context.globalAlpha = 1;
  context.beginPath();
  context.arc(point.x, point.y, 5 * unit, 0, 2 * Math.PI);
  if (point.state === "visible") {
    context.fillStyle = point.colour;
    context.fill();
    context.strokeStyle = "#000";
    context.lineWidth = 1.2 * unit;
  } else {
    context.strokeStyle = point.colour;
    context.lineWidth = 2 * unit;
  }
  context.stroke();
}

function list() {
  byId("count").textContent = scene.points.length;
  byId("play").textContent = scene.playing ? "Pause" : "Play";
  const total = about && about.images ? ` of ${about.images}` : "";
  byId("index").textContent = `image ${scene.index + 1}${total}`;
  if (!seeking) byId("seek").value = scene.index;
  const items = scene.points.map((point) => {
    const item = document.createElement("li");
    item.dataset.point = point.id;
    item.className = point.state;
    if (point.x !== null) Object.assign(item.dataset, { x: point.x.toFixed(2), y: point.y.toFixed(2) });
    item.style.setProperty("--colour", point.colour);
    const parts = [["dot", ""], ["number", point.id], ["state", point.state]].map(([name, text]) => {
      const part = document.createElement("span");
      part.className = name;
      part.textContent = text;
      return part;
    });
    const remove = document.createElement("button");
    remove.type = "button";
    remove.textContent = "×";
    remove.title = `Remove point ${point.id}`;
    remove.dataset.remove = point.id;
    item.append(...parts, remove);
    return item;
  });
  byId("points").replaceChildren(...items);
}

function setStatus(text, lost) {
  byId("status").textContent = text;
  byId("status").classList.toggle("lost", lost);
}

let hide = null;
function showMessage(text) {
  const message = byId("message");
  message.textContent = text;
  message.hidden = false;
  clearTimeout(hide);
  hide = setTimeout(() => { message.hidden = true; }, 8000);
}

canvas.addEventListener("click", (event) => {
  if (!scene) return;
  const box = canvas.getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width) * scene.width - 0.5;
  const y = ((event.clientY - box.top) / box.height) * scene.height - 0.5;
  send({ type: "add", image: scene.image, x, y });
});
// Pressed, not clicked: the list is made anew with every image, perhaps between press and release.
byId("points").addEventListener("pointerdown", (event) => {
  if (event.target.dataset.remove !== undefined) send({ type: "remove", point: Number(event.target.dataset.remove) });
});
byId("clear").addEventListener("click", () => send({ type: "clear" }));
byId("play").addEventListener("click", () => scene && send({ type: "play", playing: !scene.playing }));
byId("done").addEventListener("click", () => { finished = true; send({ type: "done" }); });
byId("seek").addEventListener("input", () => { seeking = true; });
byId("seek").addEventListener("change", () => {
  seeking = false;
  send({ type: "seek", index: Number(byId("seek").value) });
});
document.addEventListener("keydown", (event) => {
  if (event.key === " " && event.target === document.body && !byId("play").hidden) {
    event.preventDefault();
    byId("play").click();
  }
});

connect();
