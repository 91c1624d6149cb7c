//! The tables as SQL, for whoever wants to make one by hand before its first record arrives, in a way that
//! a database which is more than PostgreSQL needs: distributed by series, partitioned by time.
//!
//! A table that is there already is used as it is; its columns are added when records bring them.
//!
//! Our tests execute what is for PostgreSQL and for Timescale. The others are to be had as no package; theirs
//! is written after their documentation: Citus, "Creating and Modifying Distributed Objects";
//! YugabyteDB, "Primary keys"; CockroachDB, "INT" and "CREATE TABLE".

use super::names::{self, quoted};
use super::options::FILLFACTOR_FULL;
use super::schema::{OWN_TABLES, create_statement};

/// A database that speaks PostgreSQL's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// PostgreSQL.
    Plain,
    /// PostgreSQL with Timescale's extension.
    Timescale,
    /// PostgreSQL with Citus's extension.
    Citus,
    /// CockroachDB.
    Cockroach,
    /// YugabyteDB.
    Yugabyte,
}

impl Flavour {
    /// Every one, with its name.
    pub const ALL: [(&'static str, Self); 5] = [
        ("postgresql", Self::Plain),
        ("timescale", Self::Timescale),
        ("citus", Self::Citus),
        ("cockroachdb", Self::Cockroach),
        ("yugabytedb", Self::Yugabyte),
    ];
}

/// The statements that make Tidegate's own tables and the table `name` of `database`.
pub fn statements(flavour: Flavour, database: &str, name: &str) -> String {
    let (schema, table) = (names::schema(database), names::table(name));
    let relation = format!("{}.{}", quoted(&schema), quoted(&table));
    let create = create_statement(&schema, &table, FILLFACTOR_FULL);
    let literal = relation.replace('\'', "''");
    let (create, behind) = match flavour {
        // The key begins with a hash: its ranges are spread evenly by themselves.
        Flavour::Plain | Flavour::Cockroach => (create, String::new()),
        Flavour::Timescale => {
            let day = "chunk_time_interval => INTERVAL '1 day', if_not_exists => true";
            (create, format!("SELECT create_hypertable('{literal}', 'time', {day});\n"))
        }
        Flavour::Citus => {
            (create, format!("SELECT create_distributed_table('{literal}', 'series');\n"))
        }
        Flavour::Yugabyte => {
            let key = "PRIMARY KEY (series HASH, time ASC, ns ASC)";
            (create.replace("PRIMARY KEY (series, time, ns)", key), String::new())
        }
    };
    let schema = quoted(&schema);
    format!("{};\n\nCREATE SCHEMA IF NOT EXISTS {schema};\n{create};\n{behind}", OWN_TABLES.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flavour_keys_by_series_and_time_and_quotes_what_it_must() {
        for (name, flavour) in Flavour::ALL {
            let sql = statements(flavour, "io\"t", "o'clock");
            assert!(sql.contains("\"io\"\"t\".\"o'clock\" (series uuid"), "{name}: {sql}");
            assert!(sql.contains("PRIMARY KEY (series"), "{name}: {sql}");
            assert!(!sql.contains("'\"io\"\"t\".\"o'clock"), "{name}: {sql}");
        }
    }
}
