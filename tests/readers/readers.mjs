// Print what an npm reader finds in a file, as JSON.
// usage: node readers.mjs gsplat|gaussian-splats-3d FILE.ply
//        node readers.mjs three|gltf-validator FILE.glb
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
    async "three"(buffer) {
        const { GLTFLoader } = await import("three/examples/jsm/loaders/GLTFLoader.js");
        const { scene, cameras } = await new GLTFLoader().parseAsync(buffer, "");
        scene.updateMatrixWorld(true);
        const points = [];
        scene.traverse((node) => node.isPoints && points.push(node));
        const attributes = Object.entries(points[0].geometry.attributes);
        return {
            points: points.length,
            matrix: points[0].matrixWorld.elements,
            attributes: Object.fromEntries(attributes.map(([name, values]) => [name, rows(values)])),
            cameras: cameras.map((camera) => ({
                name: camera.name,
                fov: camera.fov,
                aspect: camera.aspect,
                matrix: camera.matrixWorld.elements,
            })),
        };
    },
    async "gltf-validator"(buffer) {
        delete globalThis.document; // it knows Node, unless it takes it for a browser
        const { default: validator } = await import("gltf-validator");
        return validator.validateBytes(new Uint8Array(buffer), { maxIssues: 0 });
    },
};

// One row a vertex, normalised integers as numbers in [-1, 1].
function rows(values) {
    const get = ["getX", "getY", "getZ", "getW"].slice(0, values.itemSize);
    return Array.from({ length: values.count }, (_, i) => get.map((name) => values[name](i)));
}

function rowsOf3(flat) {
    return Array.from({ length: flat.length / 3 }, (_, i) => Array.from(flat.slice(3 * i, 3 * i + 3)));
}

const [name, path] = process.argv.slice(2);
const file = readFileSync(path);
const buffer = file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength);
console.log(JSON.stringify(await READERS[name](buffer)));
