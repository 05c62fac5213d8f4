// The official clients against an emulator, with every call noted, and small helpers.

import { createRequire } from "node:module";

// Where `make typescript` installs them.
const require = createRequire(new URL("../../.typescript/package.json", import.meta.url));
require("reflect-metadata");
const management = require("@itwin/imodels-client-management");
const authoring = require("@itwin/imodels-client-authoring");
const { AzureClientStorage, BlockBlobClientWrapperFactory } = require("@itwin/object-storage-azure");

const { base, token, ...given } = JSON.parse(process.argv[3]);
export const { imodel: iModelId, itwin: iTwinId, directory } = given;
export const authorization = async () => ({ scheme: "Bearer", token });
export const called = new Set();

const noted = (client, name) =>
  new Proxy(client, {
    get(target, group) {
      const operations = target[group];
      if (typeof operations !== "object" || operations === null) return operations;
      return new Proxy(operations, {
        get(inner, method) {
          const value = inner[method];
          if (typeof value !== "function") return value;
          return (params) => {
            called.add(`${name} ${inner.constructor.name}.${String(method)}`);
            return value.call(inner, { authorization, ...params });
          };
        },
      });
    },
  });

const api = { baseUrl: `${base}/imodels` };
export const manage = noted(new management.IModelsClient({ api }), "management");
const cloudStorage = new AzureClientStorage(new BlockBlobClientWrapperFactory());
export const author = noted(new authoring.IModelsClient({ api, cloudStorage }), "authoring");

export const code = management.IModelsErrorCode;
export const all = (iterator) => management.toArray(iterator);

// Every page has this many items, so that next links are followed.
export const paged = { urlParams: { $top: 3 } };

// The error that a call ends with.
export const refusal = async (promise) => {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("it was not refused");
};
