// Starts the page: its theme, its data, then table, plots and dialogs.
const THEMES = ["auto", "light", "dark"];

function setTheme(theme) {
  const root = document.documentElement;
  root.dataset.theme = theme;
  byId("theme").textContent = `Theme: ${theme}`;
  redrawCharts();
}

function startTheme() {
  byId("theme").addEventListener("click", () => {
    setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redrawCharts);
}

// In `report --watch`: asks whether there is more, and offers it.
function startWatching() {
  const now = document.body.dataset.watch;
  if (!now) return;
  const ask = async () => {
    try {
      const answer = await fetch("/version");
      if (answer.ok && (await answer.text()) !== now) byId("news").hidden = false;
      byId("gone").hidden = true;
    } catch {
      byId("gone").hidden = false;
    }
  };
  byId("reload").addEventListener("click", () => location.reload());
  setInterval(ask, 3000);
}

async function start() {
  startTheme();
  startWatching();
  take(await inflate(byId("data").textContent));
  startTable();
  startCharts();
  startPanels();
  for (const button of document.querySelectorAll("button[data-open]")) {
    button.addEventListener("click", () => openPanel(button.dataset.open));
  }
}

start().catch((error) => {
  byId("broken").hidden = false;
  byId("broken").textContent = `The page could not be shown: ${error}. It needs a browser of 2023 or later.`;
  throw error;
});
