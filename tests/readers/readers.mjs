// Print the Gaussians that an npm reader finds in a PLY file, as JSON.
// usage: node readers.mjs gsplat|gaussian-splats-3d FILE
import { readFileSync } from "node:fs";

// Both packages expect a browser when they load; nothing of it is used to parse a file.
globalThis.window = globalThis.self = globalThis;
globalThis.Worker = class {};
globalThis.document = { createElement: () => ({ getContext: () => null, style: {} }) };

const READERS = {
    async "gsplat"(buffer) {
        const { PLYLoader } = await import("gsplat");
        const { data } = PLYLoader.LoadFromArrayBuffer(buffer, { addObject() {} });
        return { positions: rowsOf3(data.positions), scales: rowsOf3(data.scales) };
    },
    async "gaussian-splats-3d"(buffer) {
        const { PlyParser } = await import("@mkkellogg/gaussian-splats-3d");
        const { splats } = PlyParser.parseToUncompressedSplatArray(buffer, 2);
        return {
            positions: splats.map((splat) => splat.slice(0, 3)),
            scales: splats.map((splat) => splat.slice(3, 6)),
        };
    },
};

function rowsOf3(flat) {
    return Array.from({ length: flat.length / 3 }, (_, i) => Array.from(flat.slice(3 * i, 3 * i + 3)));
}

const [name, path] = process.argv.slice(2);
const file = readFileSync(path);
const buffer = file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength);
console.log(JSON.stringify(await READERS[name](buffer)));
