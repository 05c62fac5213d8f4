// Each function is one test: `node sections.mjs NAME '{"base": ..., "token": ...}'`. The last line
// that it prints is the list of what it called.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { all, author, called, code, directory, iModelId, iTwinId, manage, paged, refusal } from "./clients.mjs";

const extent = {
  southWest: { latitude: 46.1, longitude: 7.6 },
  northEast: { latitude: 46.3, longitude: 7.8 },
};
const created = (name, more = {}) =>
  manage.iModels.createEmpty({ iModelProperties: { iTwinId, name, ...more } });
const changeset = (changesetIndex) => manage.changesets.getSingle({ iModelId, changesetIndex });

const sections = {
  async lists() {
    const urlParams = { iTwinId, $top: 2, $orderBy: { property: "name" } };
    const minimal = await all(manage.iModels.getMinimalList({ urlParams }));
    const full = await all(manage.iModels.getRepresentationList({ urlParams }));
    assert.ok(minimal.length > 2);
    assert.deepEqual(minimal.map(({ id }) => id), full.map(({ id }) => id));
    assert.equal(full[0].iTwinId, iTwinId);
    assert.ok((await full[0].getCreator()).displayName);
    const single = await manage.iModels.getSingle({ iModelId });
    assert.equal(single.state, "initialized");
    assert.ok((await single.getCreator()).email);
  },

  async creation() {
    const description = "Draft";
    const instant = await created("Instant", { description, extent, containersEnabled: 3 });
    assert.deepEqual([instant.state, instant.extent, instant.containersEnabled], ["initialized", extent, 3]);
    const geographicCoordinateSystem = { horizontalCRSId: "EPSG:25832" };
    const empty = await created("Empty", { creationMode: "empty", geographicCoordinateSystem });
    assert.equal(empty.state, "initialized");
    const template = { iModelId, changesetId: (await manage.changesets.getSingle({ iModelId, changesetIndex: 3 })).id };
    const iModelProperties = { iTwinId, name: "Templated", template };
    assert.equal((await manage.iModels.createFromTemplate({ iModelProperties })).state, "initialized");
    const { state } = await manage.operations.getCreateIModelDetails({ iModelId: empty.id });
    assert.equal(state, "successful");
    const taken = await refusal(created("Empty"));
    assert.equal(taken.code, code.IModelExists);
    const long = await refusal(created("n", { description: "d".repeat(256) }));
    assert.equal(long.code, code.InvalidIModelsRequest);
    assert.equal(long.details[0].code, "InvalidValue");
    assert.equal(
      long.details[0].message,
      "Provided 'description' value is not valid. The value exceeds allowed 255 characters.",
    );
  },

  async copies() {
    const original = await manage.iModels.getSingle({ iModelId });
    const clone = await manage.iModels.clone({ iModelId, iModelProperties: { iTwinId, name: "Clone", changesetIndex: 3 } });
    assert.deepEqual([clone.description, clone.extent], [original.description, original.extent]);
    const copied = await all(manage.changesets.getMinimalList({ iModelId: clone.id }));
    const first = await all(manage.changesets.getMinimalList({ iModelId, urlParams: { lastIndex: 3 } }));
    assert.deepEqual(copied.map(({ id }) => id), first.map(({ id }) => id));
    const { clonedFrom } = await manage.operations.getCreateIModelDetails({ iModelId: clone.id });
    assert.deepEqual(clonedFrom, { iModelId, changesetId: first[2].id });
    const baseline = { iTwinId, name: "Baseline", changesetId: "" };
    const bare = await manage.iModels.clone({ iModelId, iModelProperties: baseline });
    assert.equal((await all(manage.changesets.getMinimalList({ iModelId: bare.id }))).length, 0);
    const iModelProperties = { iTwinId, name: "Fork", preserveHistory: true };
    const fork = await manage.iModels.fork({ iModelId, iModelProperties });
    const { forkedFrom } = await manage.operations.getCreateIModelDetails({ iModelId: fork.id });
    assert.equal(forkedFrom.iModelId, iModelId);
    assert.ok(forkedFrom.relationshipId);
  },

  async changes() {
    const { id } = await created("Before");
    const iModelProperties = { name: "After", description: "Changed", extent };
    const after = await manage.iModels.update({ iModelId: id, iModelProperties });
    assert.deepEqual([after.name, after.description, after.extent], ["After", "Changed", extent]);
    await manage.iModels.delete({ iModelId: id });
    assert.equal((await refusal(manage.iModels.getSingle({ iModelId: id }))).code, code.IModelNotFound);
    assert.equal((await refusal(manage.iModels.getSingle({ iModelId: "odd" }))).code, code.IModelNotFound);
  },

  async favorites() {
    const params = { urlParams: { iTwinId } };
    for (const group of [manage.favoriteIModels, manage.recentIModels]) {
      await group.add({ iModelId });
      assert.deepEqual((await all(group.getMinimalList(params))).map(({ id }) => id), [iModelId]);
      assert.equal((await all(group.getRepresentationList(params)))[0].iTwinId, iTwinId);
      await group.remove({ iModelId });
      assert.equal((await all(group.getMinimalList(params))).length, 0);
    }
  },

  async people() {
    const minimal = await all(manage.users.getMinimalList({ iModelId, ...paged }));
    const full = await all(manage.users.getRepresentationList({ iModelId }));
    assert.deepEqual(minimal.map(({ id }) => id), full.map(({ id }) => id));
    const single = await manage.users.getSingle({ iModelId, userId: full[0].id });
    assert.equal(single.statistics.pushedChangesetsCount, full[0].statistics.pushedChangesetsCount);
    const { permissions } = await manage.userPermissions.get({ iModelId });
    assert.ok(permissions.includes("imodels_write"));
    const unknown = { iModelId, userId: "00000000-0000-4000-8000-000000000000" };
    assert.equal((await refusal(manage.users.getSingle(unknown))).code, code.UserNotFound);
  },

  async thumbnails() {
    const before = await manage.thumbnails.download({ iModelId });
    assert.deepEqual([before.size, before.imageType], ["small", "image/png"]);
    const image = Buffer.concat([Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]), Buffer.alloc(32, 7)]);
    await manage.thumbnails.upload({ iModelId, thumbnailProperties: { imageType: "image/png", image } });
    const after = await manage.thumbnails.download({ iModelId, urlParams: { size: "large" } });
    assert.deepEqual(Buffer.from(after.image), image);
  },

  async changesets() {
    const minimal = await all(manage.changesets.getMinimalList({ iModelId, ...paged }));
    const full = await all(manage.changesets.getRepresentationList({ iModelId, urlParams: { $top: 3, afterIndex: 2 } }));
    assert.deepEqual(minimal.slice(2).map(({ id }) => id), full.map(({ id }) => id));
    assert.equal(minimal[0].parentId, "");
    assert.ok((await full[0].getCreator()).displayName);
    assert.ok((await minimal[0].getCreator()).displayName);
    assert.ok(full[0]._links.download.href);
    const single = await manage.changesets.getSingle({ iModelId, changesetId: full[0].id });
    assert.equal(single.index, 3);
    const missing = await refusal(manage.changesets.getSingle({ iModelId, changesetIndex: 999 }));
    assert.equal(missing.code, code.ChangesetNotFound);
  },

  async extendedData() {
    const entries = await all(manage.changesetExtendedData.getList({ iModelId, ...paged }));
    assert.equal(typeof entries[0].data, "object");
    const single = await manage.changesetExtendedData.getSingle({ iModelId, changesetIndex: entries[1].changesetIndex });
    assert.deepEqual(single.data, entries[1].data);
    const missing = await refusal(manage.changesetExtendedData.getSingle({ iModelId, changesetIndex: 2 }));
    assert.equal(missing.code, code.ChangesetExtendedDataNotFound);
    const changesetExtendedDataProperties = { data: { "some key": "some value" } };
    const stored = await author.changesetExtendedData.create({ iModelId, changesetIndex: 2, changesetExtendedDataProperties });
    assert.deepEqual(stored.data, { "some key": "some value" });
  },

  async baseline() {
    const filePath = join(directory, "model.bim");
    writeFileSync(filePath, Buffer.alloc(700_000, 5));
    const iModelProperties = { iTwinId, name: "From a file", filePath };
    const iModel = await author.iModels.createFromBaseline({ iModelProperties });
    assert.equal(iModel.state, "initialized");
    const baseline = await author.baselineFiles.getSingle({ iModelId: iModel.id });
    assert.deepEqual([baseline.state, baseline.fileSize], ["initialized", 700_000]);
    const download = await fetch(baseline._links.download.href);
    assert.deepEqual(Buffer.from(await download.arrayBuffer()), readFileSync(filePath));
  },

  async downloads() {
    const targetDirectoryPath = join(directory, "changesets");
    mkdirSync(targetDirectoryPath);
    const downloaded = await author.changesets.downloadList({ iModelId, targetDirectoryPath, urlParams: { lastIndex: 4 } });
    for (const { filePath, fileSize } of downloaded) assert.equal(readFileSync(filePath).length, fileSize);
    assert.equal(downloaded.length, 4);
    const one = await author.changesets.downloadSingle({ iModelId, changesetIndex: 5, targetDirectoryPath });
    assert.equal(readFileSync(one.filePath).length, one.fileSize);
  },
  async namedVersions() {
    const properties = { name: "Issued", description: "For review", changesetId: (await changeset(2)).id };
    const version = await manage.namedVersions.create({ iModelId, namedVersionProperties: properties });
    assert.deepEqual([version.changesetIndex, version.state], [2, "visible"]);
    assert.equal((await version.getChangeset()).index, 2);
    assert.ok((await version.getCreator()).displayName);
    const baseline = await manage.namedVersions.create({ iModelId, namedVersionProperties: { name: "Begun" } });
    assert.deepEqual([baseline.changesetIndex, baseline.changesetId], [0, null]);
    const minimal = await all(manage.namedVersions.getMinimalList({ iModelId, urlParams: { $top: 1 } }));
    const full = await all(manage.namedVersions.getRepresentationList({ iModelId }));
    assert.deepEqual(minimal.map(({ id }) => id), full.map(({ id }) => id));
    const state = "hidden";
    const hidden = await manage.namedVersions.update({ iModelId, namedVersionId: version.id, namedVersionProperties: { state } });
    assert.equal(hidden.state, state);
    assert.equal((await manage.namedVersions.getSingle({ iModelId, namedVersionId: version.id })).state, state);
    const again = await refusal(manage.namedVersions.create({ iModelId, namedVersionProperties: { ...properties, name: "Other" } }));
    assert.equal(again.code, code.NamedVersionOnChangesetExists);
    const odd = await refusal(manage.namedVersions.getSingle({ iModelId, namedVersionId: iTwinId }));
    assert.equal(odd.code, code.NamedVersionNotFound);
    assert.equal((await (await manage.changesets.getSingle({ iModelId, changesetIndex: 2 })).getNamedVersion()).id, version.id);
  },

  async groups() {
    const group = await author.changesetGroups.create({ iModelId, changesetGroupProperties: { description: "Run 1" } });
    assert.equal(group.state, "inProgress");
    const changesetGroupId = group.id;
    const listed = await all(manage.changesetGroups.getList({ iModelId }));
    assert.ok(listed.some(({ id }) => id === group.id));
    assert.ok((await group.getCreator()).displayName);
    const completed = { state: "completed" };
    await author.changesetGroups.update({ iModelId, changesetGroupId, changesetGroupProperties: completed });
    assert.equal((await manage.changesetGroups.getSingle({ iModelId, changesetGroupId })).state, "completed");
    const missing = await refusal(manage.changesetGroups.getSingle({ iModelId, changesetGroupId: iTwinId }));
    assert.equal(missing.code, code.ChangesetGroupNotFound);
  },

  async checkpoints() {
    const namedVersionProperties = { name: "Issued", changesetId: (await changeset(4)).id };
    const version = await manage.namedVersions.create({ iModelId, namedVersionProperties });
    const first = await manage.checkpoints.getSingle({ iModelId, namedVersionId: version.id });
    assert.deepEqual([first.state, first.directoryAccessInfo], ["scheduled", null]);
    const named = await manage.checkpoints.getSingle({ iModelId, namedVersionId: version.id });
    assert.deepEqual([named.state, named.changesetIndex], ["successful", 4]);
    assert.ok(named.directoryAccessInfo.azure.sasToken);
    const preceding = await manage.checkpoints.getSingle({ iModelId, changesetIndex: 6 });
    assert.equal(preceding.changesetIndex, 4);
    assert.ok((await manage.checkpoints.getSingle({ iModelId })).state);
    const again = await manage.checkpoints.updateNamedVersionCheckpoint({ iModelId, namedVersionId: version.id });
    assert.ok(again.state);
    const current = await (await manage.changesets.getSingle({ iModelId, changesetIndex: 6 })).getCurrentOrPrecedingCheckpoint();
    assert.equal(current.changesetIndex, 4);
  },

  async briefcases() {
    const acquired = await author.briefcases.acquire({ iModelId, briefcaseProperties: { deviceName: "desk" } });
    const { briefcaseId } = acquired;
    assert.equal(acquired.deviceName, "desk");
    assert.ok((await acquired.getOwner()).displayName);
    assert.ok((await acquired.getCheckpoint()).state);
    const plain = await author.briefcases.acquire({ iModelId });
    const minimal = await all(manage.briefcases.getMinimalList({ iModelId, urlParams: { $top: 1, ownerId: "me" } }));
    const full = await all(manage.briefcases.getRepresentationList({ iModelId, urlParams: { ownerId: "me" } }));
    assert.deepEqual(minimal.map(({ id }) => id), full.map(({ id }) => id));
    assert.ok((await manage.briefcases.getSingle({ iModelId, briefcaseId })).fileSize > 0);
    await manage.briefcases.release({ iModelId, briefcaseId });
    await author.briefcases.release({ iModelId, briefcaseId: plain.briefcaseId });
    const gone = await refusal(manage.briefcases.getSingle({ iModelId, briefcaseId }));
    assert.equal(gone.code, code.BriefcaseNotFound);
  },

  async locks() {
    const [mine, theirs] = [await author.briefcases.acquire({ iModelId }), await author.briefcases.acquire({ iModelId })];
    const { briefcaseId } = mine;
    const changesetId = (await changeset(8)).id;
    const lockedObjects = [
      { lockLevel: "exclusive", objectIds: ["0x1", "0x2"] },
      { lockLevel: "shared", objectIds: ["0x3"] },
    ];
    const lock = await author.locks.update({ iModelId, briefcaseId, changesetId, lockedObjects });
    assert.equal(lock.briefcaseId, briefcaseId);
    assert.equal((await all(author.locks.getList({ iModelId, urlParams: { briefcaseId } }))).length, 1);
    const shared = await all(manage.locks.getList({ iModelId, urlParams: { briefcaseId, lockLevel: "shared" } }));
    assert.deepEqual(shared[0].lockedObjects, [{ lockLevel: "shared", objectIds: ["0x3"] }]);
    const other = { iModelId, briefcaseId: theirs.briefcaseId, changesetId };
    const conflict = await refusal(author.locks.update({ ...other, lockedObjects: [lockedObjects[0]] }));
    assert.equal(conflict.code, code.ConflictWithAnotherUser);
    assert.equal(conflict.conflictingLocks[0].objectId, "0x1");
    while (!(await manage.locks.releaseLocksChunk({ iModelId, briefcaseId, changesetId })).isLastChunk);
    assert.equal((await all(manage.locks.getList({ iModelId, urlParams: { briefcaseId } }))).length, 0);
    const released = await all(manage.locks.getReleasedLockList({ iModelId, urlParams: { afterChangesetIndex: 7 } }));
    assert.deepEqual(released.flatMap(({ objectIds }) => objectIds).sort(), ["0x1", "0x2", "0x3"]);
  },

  async pushes() {
    const { briefcaseId } = await author.briefcases.acquire({ iModelId });
    const group = await author.changesetGroups.create({ iModelId, changesetGroupProperties: { description: "Run" } });
    const filePath = join(directory, "new.cs");
    writeFileSync(filePath, Buffer.alloc(100_000, 9));
    const last = await changeset(8);
    const changesetProperties = {
      id: "c".repeat(40), parentId: last.id, briefcaseId, filePath, groupId: group.id,
      description: "Nine", containingChanges: 1,
      synchronizationInfo: { taskId: iTwinId, changedFiles: ["a.dgn"] },
    };
    const pushed = await author.changesets.create({ iModelId, changesetProperties });
    assert.deepEqual([pushed.index, pushed.state, pushed.groupId], [9, "fileUploaded", group.id]);
    const targetDirectoryPath = join(directory, "pushed");
    mkdirSync(targetDirectoryPath);
    const found = await author.changesets.downloadSingle({ iModelId, changesetIndex: 9, targetDirectoryPath });
    assert.deepEqual(readFileSync(found.filePath), readFileSync(filePath));
    assert.deepEqual(found.synchronizationInfo.changedFiles, ["a.dgn"]);
    const again = await refusal(author.changesets.create({ iModelId, changesetProperties }));
    assert.equal(again.code, code.ChangesetExists);
    const old = { ...changesetProperties, id: "d".repeat(40) };
    assert.equal((await refusal(author.changesets.create({ iModelId, changesetProperties: old }))).code, code.NewerChangesExist);
  },
};

await sections[process.argv[2]]();
console.log(JSON.stringify([...called]));
