// Shows the latest state without a reload. Without it, the page is as good as its last load.
const PERIOD = 5000;

async function refresh() {
  const notice = document.getElementById("notice");
  try {
    const response = await fetch(location.pathname, { signal: AbortSignal.timeout(PERIOD) });
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    const latest = page.querySelector("main");
    if (!response.ok || !latest) {
      throw new Error(`status ${response.status}`);
    }
    document.querySelector("main").replaceWith(latest);
    document.title = page.title;
    notice.hidden = true;
  } catch (error) {
    notice.textContent = `The sidecar does not answer (${error.message}). What is shown is old.`;
    notice.hidden = false;
  }
}

setInterval(() => document.hidden || refresh(), PERIOD);
document.addEventListener("visibilitychange", () => document.hidden || refresh());
