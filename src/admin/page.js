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
    for (const open of document.querySelectorAll("details[open]")) {
      latest.querySelector(`#${open.id}`)?.setAttribute("open", "");
    }
    document.querySelector("main").replaceWith(latest);
    document.title = page.title;
    document.body.classList.remove("old");
    notice.hidden = true;
    addLocalTimes();
  } catch (error) {
    notice.textContent = `The sidecar does not answer (${error.message}). What is shown is old.`;
    notice.hidden = false;
    document.body.classList.add("old");
  }
}

// The page has UTC, as logs do. This adds the reader's own time.
function addLocalTimes() {
  for (const time of document.querySelectorAll("time")) {
    const local = new Date(time.dateTime).toLocaleTimeString();
    if (time.classList.contains("local")) {
      time.append(` (${local} here)`);
    } else {
      time.title += ` (${local} here)`;
    }
  }
}

addLocalTimes();
setInterval(() => document.hidden || refresh(), PERIOD);
document.addEventListener("visibilitychange", () => document.hidden || refresh());
