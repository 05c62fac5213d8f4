// Bentley's own client for TypeScript, `@itwin/imodels-client-management`, doing the same work.
// Takes and prints what `clients.py` does; the folder that holds node_modules is the first
// argument, because the package is installed next to the results and not next to this file.

import { globalAgent } from "node:http";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [work, argument] = process.argv.slice(2);
const require = createRequire(join(work, "package.json"));
const { IModelsClient } = require("@itwin/imodels-client-management");

const status = (name) => {
  try {
    const line = new RegExp(`^${name}:\\s+(\\d+)`, "m").exec(readFileSync("/proc/self/status", "utf8"));
    return Number(line[1]) * 1024;
  } catch {
    return process.resourceUsage().maxRSS * 1024;
  }
};

const newTally = () => ({ entries: 0, items: 0, indexes: 0, first: 0 });

const add = (tally, entry) => {
  const { changedFiles, changes } = entry.data.data;
  if (!tally.first) tally.first = performance.now();
  tally.entries += 1;
  tally.items += changedFiles.length + (changes ? changes.length : 0);
  tally.indexes += entry.changesetIndex;
};

const main = async (spec) => {
  const before = status("VmRSS");
  // Requests in flight are bounded where node bounds them: by the agent that axios uses.
  if (spec.lists.length > 1 || spec.requests) globalAgent.maxSockets = spec.bound;
  globalAgent.maxFreeSockets = Math.max(256, spec.bound);
  const client = new IModelsClient({ api: { baseUrl: `${spec.base}/imodels` } });
  const authorization = async () => ({ scheme: "Bearer", token: "t" });

  const walk = async (iModelId, tally) => {
    const urlParams = { $top: spec.top };
    for await (const entry of client.changesetExtendedData.getList({ authorization, iModelId, urlParams })) {
      add(tally, entry);
    }
  };
  const single = async (count, tally) => {
    let index = 0;
    const worker = async () => {
      while (index < count) {
        index += 1;
        const changesetIndex = index;
        const [iModelId] = spec.lists;
        const entry = await client.changesetExtendedData.getSingle({ authorization, iModelId, changesetIndex });
        add(tally, entry);
      }
    };
    await Promise.all(Array.from({ length: spec.bound }, worker));
  };

  if (spec.requests) await single(spec.bound, newTally());
  else await Promise.all(spec.warm_up.map((id) => walk(id, newTally())));

  const tally = newTally();
  let stall = 0;
  let beating = spec.stall;
  const beat = () => {
    const asked = performance.now();
    setTimeout(() => {
      stall = Math.max(stall, performance.now() - asked - 1);
      if (beating) beat();
    }, 1);
  };
  if (beating) beat();
  await new Promise((resolve) => setTimeout(resolve, 5));
  stall = 0;

  const cpu = process.cpuUsage();
  const wall = performance.now();
  if (spec.requests) await single(spec.requests, tally);
  else await Promise.all(spec.lists.map((id) => walk(id, tally)));
  const done = performance.now();
  const used = process.cpuUsage(cpu);
  await new Promise((resolve) => setTimeout(resolve, 5));
  beating = false;

  console.log(
    JSON.stringify({
      wall: (done - wall) / 1e3,
      cpu: (used.user + used.system) / 1e6,
      first: (tally.first - wall) / 1e3,
      memory: status("VmHWM") - before,
      stall: stall / 1e3,
      entries: tally.entries,
      items: tally.items,
      indexes: tally.indexes,
    }),
  );
};

if (argument === "versions") {
  const version = (name) => JSON.parse(readFileSync(join(work, "node_modules", name, "package.json"), "utf8")).version;
  console.log(
    JSON.stringify({
      node: process.versions.node,
      "@itwin/imodels-client-management": version("@itwin/imodels-client-management"),
      axios: version("axios"),
    }),
  );
} else {
  await main(JSON.parse(argument));
  process.exit(0);
}
