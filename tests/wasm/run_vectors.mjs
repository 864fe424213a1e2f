// Runs tests/wire/mpy_vectors.py on a 32-bit MicroPython compiled to WebAssembly, where small integers have 31 bits.
// That build has no cryptolib: tests/wire/aes.py takes its place, and mpy_vectors.py checks it against FIPS-197 first.
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const root = join(here, "..", "..");
const { loadMicroPython } = await import(
    join(here, "node_modules/@micropython/micropython-webassembly-pyscript/micropython.mjs")
);

const micropython = await loadMicroPython({
    heapsize: 2 * 1024 * 1024,
    linebuffer: true,
    stdout: (line) => console.log(line),
});

function copy(from, to) {
    const folders = dirname(to).split("/").filter((name) => name !== ".");
    for (let depth = 1; depth <= folders.length; depth++) {
        const folder = folders.slice(0, depth).join("/");
        if (!micropython.FS.analyzePath(folder).exists) micropython.FS.mkdir(folder);
    }
    micropython.FS.writeFile(to, readFileSync(join(root, from)));
}

function copyAll(folder, wanted) {
    for (const name of readdirSync(join(root, folder))) {
        if (wanted(name)) copy(`${folder}/${name}`, `${folder}/${name}`);
    }
}

copyAll("protocols", (name) => name === "__init__.py");
copyAll("protocols/wire", (name) => name.endsWith(".py") && !name.endsWith("_host.py"));
copyAll("protocols/vectors", (name) => name.endsWith(".json"));
copyAll("tests", (name) => name === "__init__.py");
copyAll("tests/wire", (name) => name.endsWith(".py"));
copy("tests/wire/aes.py", "cryptolib.py");

micropython.runPython(readFileSync(join(root, "tests/wire/mpy_vectors.py"), "utf8"));
