// Looks again every few seconds, where the page is looked at. Without this script the page is as it was when it came.
"use strict";
const live = document.getElementById("live");
async function look() {
  if (document.hidden) return;
  try {
    const answer = await fetch("live" + location.search, { headers: { accept: "text/html" } });
    if (answer.ok) live.innerHTML = await answer.text();
  } catch { /* the simulator is away: the next look may find it */ }
}
if (live) setInterval(look, 3000);
