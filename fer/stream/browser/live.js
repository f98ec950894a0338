// The camera of the browser page. The page shows its own picture; only small JPEGs go to the program, one after the
// other, and boxes with numbers come back. `element` and `server` are Gradio's, COLOURS is put before this file.
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

const say = (text) => { note.textContent = text; };
const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const css = (name) => `rgb(${(COLOURS[name] || COLOURS[""]).join(",")})`;

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
  server.leave(viewer).catch(() => {});
}

async function loop(mine) {
  while (stream === mine) {
    if (document.hidden || !root.offsetParent || !video.videoWidth) { await wait(100); continue; }
    const scale = Math.min(1, 640 / Math.max(video.videoWidth, video.videoHeight));
    copy.width = Math.round(video.videoWidth * scale);
    copy.height = Math.round(video.videoHeight * scale);
    copy.getContext("2d").drawImage(video, 0, 0, copy.width, copy.height);
    const image = copy.toDataURL("image/jpeg", 0.85);
    const sent = performance.now();
    let answer;
    try {
      answer = await server.look({ viewer, model: window.ferModel || "", image });
    } catch (error) {
      say("The program does not answer; is it still running?");
      await wait(1000);
      continue;
    }
    if (stream !== mine) return;
    if (answer.error) { stop(); say(answer.error); return; }
    const now = performance.now();
    times.push(now);
    while (times.length > 1 && now - times[0] > 2000) times.shift();
    const rate = times.length > 1 ? (times.length - 1) * 1000 / (now - times[0]) : 0;
    say(`${rate.toFixed(0)} results a second, ${(now - sent).toFixed(0)} ms each`);
    show(answer);
    root.lastImage = image;
    root.lastAnswer = answer;
    root.dataset.results = String(Number(root.dataset.results || 0) + 1);
    root.dataset.faces = JSON.stringify(answer.faces);
  }
}

function show(answer) {
  overlay.width = answer.width;
  overlay.height = answer.height;
  const pen = overlay.getContext("2d");
  const unit = Math.min(answer.width, answer.height) / 360;
  pen.font = `600 ${Math.round(16 * unit)}px system-ui, sans-serif`;
  pen.textBaseline = "top";
  const cards = [];
  for (const face of answer.faces) {
    const [x1, y1, x2, y2] = face.box;
    const left = answer.width - x2;  // the picture is mirrored, as people know themselves
    pen.lineWidth = 3 * unit;
    pen.strokeStyle = css(face.emotion);
    pen.strokeRect(left, y1, x2 - x1, y2 - y1);
    const text = `${face.id} ${face.emotion} ${Math.round(100 * face.confidence)} %`;
    const wide = pen.measureText(text).width + 10 * unit;
    const high = 22 * unit;
    const top = y1 >= high ? y1 - high : Math.min(y2, answer.height - high);
    const from = Math.max(0, Math.min(left, answer.width - wide));
    pen.fillStyle = "rgba(15,15,15,.82)";
    pen.fillRect(from, top, wide, high);
    pen.fillStyle = "#fff";
    pen.fillText(text, from + 5 * unit, top + 3 * unit);
    cards.push(card(face));
  }
  people.replaceChildren(...cards);
}

function card(face) {
  const made = document.createElement("div");
  made.className = "fer-card";
  const title = document.createElement("b");
  title.textContent = `Face ${face.id}: ${face.uncertain ? "perhaps " : ""}${face.emotion}`;
  made.append(title);
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
    made.append(row);
  }
  return made;
}

button.addEventListener("click", () => (stream ? stop() : start()));
window.addEventListener("pagehide", stop);
