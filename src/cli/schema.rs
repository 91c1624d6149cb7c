//! `tidegate schema`: the SQL of a table in a database elsewhere, to be made by hand.

use clap::Args;

use super::{Failure, out};
use crate::engine::postgres::ddl::{Flavour, statements};

/// Flags of `schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Of which engine: postgres.
    engine: String,
    /// postgresql, timescale, citus, cockroachdb or yugabytedb.
    #[arg(long = "for", value_name = "SERVER", default_value = "postgresql")]
    server: String,
    /// The database whose table it is.
    #[arg(long, value_name = "D")]
    database: String,
    /// The table.
    #[arg(long, value_name = "T")]
    table: String,
}

/// Prints the statements.
///
/// # Errors
///
/// [`Failure::Usage`] for an engine without SQL, a server that is not known, or an empty name.
pub fn run(args: &SchemaArgs) -> Result<(), Failure> {
    if args.engine != "postgres" {
        return Err(Failure::usage(format!(
            "{:?} is no engine with SQL: write postgres",
            args.engine
        )));
    }
    for (flag, name) in [("--database", &args.database), ("--table", &args.table)] {
        if name.is_empty() {
            return Err(Failure::usage(format!(
                "{flag}: empty; name the one whose SQL is asked for"
            )));
        }
    }
    let known = Flavour::ALL.iter().find(|(name, _)| *name == args.server);
    let Some((_, flavour)) = known else {
        let all = Flavour::ALL.map(|(name, _)| name).join(", ");
        return Err(Failure::usage(format!("--for {:?}: write one of {all}", args.server)));
    };
    let sql = statements(*flavour, &args.database, &args.table);
    out::print(&sql)
}
