// The camera tab. The page itself shows the camera; it sends small JPEGs to the program, one at a time, and receives
// boxes and probabilities, and with blur= the picture to show. `element` and `server` come from Gradio; COLOURS and HIDDEN
// are defined before this file.
const root = element.querySelector(".fer-live");
const video = root.querySelector("video");
const overlay = root.querySelector("canvas");
const button = root.querySelector("button");
const note = root.querySelector(".fer-note");
const people = root.querySelector(".fer-people");
const viewer = Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
const copy = document.createElement("canvas");
const times = [];
let stream = null;
if (HIDDEN) video.style.visibility = "hidden";  // only pictures in which faces are hidden are shown

const say = (text) => { note.textContent = text; };
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const css = (name) => `rgb(${COLOURS[name].join(",")})`;

async function start() {
  if (!navigator.mediaDevices) {
    say("The browser gives its camera only to pages on 127.0.0.1 or with https.");
    return;
  }
  try {
    const size = { width: { ideal: 640 }, height: { ideal: 480 } };
    stream = await navigator.mediaDevices.getUserMedia({ video: size, audio: false });
    video.srcObject = stream;
    await video.play();
  } catch (error) {
    stop();
    say(error.name === "NotAllowedError" ? "The camera is not allowed here; allow it in the browser's settings."
      : `No camera: ${error.message}`);
    return;
  }
  root.style.setProperty("--shape", String(video.videoWidth / video.videoHeight));
  button.textContent = "Stop the camera";
  loop(stream);
}

function stop() {
  if (stream) stream.getTracks().forEach((track) => track.stop());
  stream = null;
  video.srcObject = null;
  overlay.getContext("2d").clearRect(0, 0, overlay.width, overlay.height);
  people.replaceChildren();
  times.length = 0;
  button.textContent = "Start the camera";
  say("");
  server.disconnect(viewer).catch(() => {});
}

async function loop(own) {
  while (stream === own) {
    if (document.hidden || !root.offsetParent || !video.videoWidth) { await wait(100); continue; }
    const scale = Math.min(1, 640 / Math.max(video.videoWidth, video.videoHeight));
    copy.width = Math.round(video.videoWidth * scale);
    copy.height = Math.round(video.videoHeight * scale);
    copy.getContext("2d").drawImage(video, 0, 0, copy.width, copy.height);
    const image = copy.toDataURL("image/jpeg", 0.85);
    const sent = performance.now();
    let result;
    try {
      result = await server.recognize({ viewer, image });
    } catch (error) {
      say("The program does not respond; is it still running?");
      await wait(1000);
      continue;
    }
    if (stream !== own) return;
    if (result.error) { stop(); say(result.error); return; }
    const now = performance.now();
    times.push(now);
    while (times.length > 1 && now - times[0] > 2000) times.shift();
    const rate = times.length > 1 ? (times.length - 1) * 1000 / (now - times[0]) : 0;
    say(`${rate.toFixed(0)} results a second, ${(now - sent).toFixed(0)} ms each`);
    let picture = null;
    if (HIDDEN) {
      picture = new Image();
      picture.src = result.picture;
      await picture.decode();
      if (stream !== own) return;
    }
    show(result, picture);
    root.lastImage = image;
    root.lastResult = result;
    root.dataset.results = String(Number(root.dataset.results || 0) + 1);
    root.dataset.faces = JSON.stringify(result.faces);
  }
}

function show(result, picture) {
  overlay.width = result.width;
  overlay.height = result.height;
  const pen = overlay.getContext("2d");
  if (picture) {
    pen.save();
    pen.scale(-1, 1);
    pen.drawImage(picture, -result.width, 0, result.width, result.height);
    pen.restore();
  }
  const unit = Math.min(result.width, result.height) / 360;
  pen.font = `600 ${Math.round(16 * unit)}px system-ui, sans-serif`;
  pen.textBaseline = "top";
  const cards = [];
  for (const face of result.faces) {
    const [x1, y1, x2, y2] = face.box;
    const left = result.width - x2;  // mirrored, as people know themselves
    pen.lineWidth = 3 * unit;
    pen.strokeStyle = css(face.emotion);
    pen.strokeRect(left, y1, x2 - x1, y2 - y1);
    // U+2068 and U+2069 keep the number behind a name that is read from right to left.
    const text = `${face.id} \u2068${face.emotion}\u2069 ${Math.round(100 * face.confidence)} %`;
    const wide = pen.measureText(text).width + 10 * unit;
    const high = 22 * unit;
    const top = y1 >= high ? y1 - high : Math.min(y2, result.height - high);
    const from = Math.max(0, Math.min(left, result.width - wide));
    pen.fillStyle = "rgba(15,15,15,.82)";
    pen.fillRect(from, top, wide, high);
    pen.fillStyle = "#fff";
    pen.fillText(text, from + 5 * unit, top + 3 * unit);
    cards.push(card(face));
  }
  people.replaceChildren(...cards);
}

function card(face) {
  const box = document.createElement("div");
  box.className = "fer-card";
  const title = document.createElement("b");
  title.textContent = `Face ${face.id}: ${face.uncertain ? "perhaps " : ""}${face.emotion}`;
  box.append(title);
  for (const [name, value] of Object.entries(face.smoothed || face.probabilities)) {
    const row = document.createElement("div");
    row.className = "fer-row";
    const label = document.createElement("span");
    label.textContent = name;
    const track = document.createElement("i");
    const bar = document.createElement("i");
    bar.style.width = `${100 * value}%`;
    bar.style.background = css(name);
    track.append(bar);
    const number = document.createElement("span");
    number.textContent = `${Math.round(100 * value)} %`;
    row.append(label, track, number);
    box.append(row);
  }
  return box;
}

button.addEventListener("click", () => (stream ? stop() : start()));
window.addEventListener("pagehide", stop);
