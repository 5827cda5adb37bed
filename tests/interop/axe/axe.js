// node axe.js URL PROFILE [PICTURES]: opens a page in Chromium, in three widths and both colour schemes. Prints what
// axe-core finds wrong with it, as JSON. PROFILE is an empty folder for the browser. PICTURES is the beginning of
// the names of pictures of the whole page. The browser is controlled by its debugging protocol over pipes, which
// no other program can reach.
const { spawn } = require("node:child_process");
const { writeFileSync } = require("node:fs");

const [url, profile, pictures] = process.argv.slice(2);
const WIDTHS = [390, 768, 1280];
const SCHEMES = ["light", "dark"];
const browser = spawn(
  process.env.CHROMIUM ?? "chromium",
  ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--no-proxy-server", "--hide-scrollbars",
   "--remote-debugging-pipe", `--user-data-dir=${profile}`, "about:blank"],
  { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"], env: { ...process.env, HOME: profile } },
);
const [input, output] = [browser.stdio[3], browser.stdio[4]];

const waiting = new Map();
const events = new Map();
let received = "";
let count = 0;

output.on("data", (bytes) => {
  received += bytes;
  for (let end; (end = received.indexOf("\0")) >= 0; received = received.slice(end + 1)) {
    const message = JSON.parse(received.slice(0, end));
    if (message.id) {
      const { resolve, reject } = waiting.get(message.id);
      message.error ? reject(new Error(message.error.message)) : resolve(message.result);
    } else {
      events.get(message.method)?.();
    }
  }
});

function send(method, params = {}, sessionId) {
  const id = ++count;
  input.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }));
}

async function main() {
  const { targetId } = await send("Target.createTarget", { url: "about:blank" });
  const { sessionId } = await send("Target.attachToTarget", { targetId, flatten: true });
  const page = (method, params) => send(method, params, sessionId);
  await page("Page.enable");
  const loaded = new Promise((resolve) => events.set("Page.loadEventFired", resolve));
  await page("Page.navigate", { url });
  await loaded;
  await page("Runtime.evaluate", { expression: require("axe-core").source });
  const looks = [];
  for (const width of WIDTHS) {
    for (const scheme of SCHEMES) looks.push(await look(page, width, scheme));
  }
  return looks;
}

// Runs in the page.
const EXAMINE = `axe.run().then((found) => JSON.stringify({
  passes: found.passes.length,
  overflow: document.documentElement.scrollWidth - innerWidth,
  violations: found.violations.map((rule) => [rule.id, ...rule.nodes.map((node) => node.html)].join(" ")),
}))`;

// Resolves to the number of rules that the page keeps, and to the rules that it breaks.
async function look(page, width, scheme) {
  await page("Emulation.setDeviceMetricsOverride", { width, height: 900, deviceScaleFactor: 1, mobile: false });
  const features = [{ name: "prefers-color-scheme", value: scheme }];
  await page("Emulation.setEmulatedMedia", { features });
  const { result, exceptionDetails } =
    await page("Runtime.evaluate", { expression: EXAMINE, awaitPromise: true, returnByValue: true });
  if (exceptionDetails) throw new Error(JSON.stringify(exceptionDetails));
  if (pictures) {
    const { data } = await page("Page.captureScreenshot", { captureBeyondViewport: true });
    writeFileSync(`${pictures}-${width}-${scheme}.png`, Buffer.from(data, "base64"));
  }
  return { width, scheme, ...JSON.parse(result.value) };
}

main()
  .then((found) => console.log(JSON.stringify(found)))
  .catch((error) => { console.error(error); process.exitCode = 1; })
  .finally(() => browser.kill());
