//! What an empty list of a frame's rejections means: that nothing of it was refused, or that nobody knows yet.

use serde_json::{Value, json};

use super::patience;
use crate::api::App;
use crate::api::call::{Caller, Scope};
use crate::api::fault::Fault;
use crate::base::lsn::Lsn;
use crate::base::units::Span;
use crate::reject::select::Query;

/// How far the engine got with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The log has given no such number.
    NotGiven {
        /// The last one that it has given.
        last: Lsn,
    },
    /// It is in the log, and the engine has not executed it.
    InLog,
    /// It is in the log, and whoever asks cannot tell whether the engine has executed it.
    Unknown,
    /// The engine has executed it.
    Executed,
}

impl Reach {
    /// That of a frame while the log has given numbers up to `last`, and the engine is at `applied`.
    pub fn of(lsn: Lsn, (last, applied): (Lsn, Lsn)) -> Self {
        if lsn > last || lsn == Lsn::ZERO {
            return Self::NotGiven { last };
        }
        if lsn > applied { Self::InLog } else { Self::Executed }
    }

    /// Its name, for programs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotGiven { .. } => "not_given",
            Self::InLog => "not_executed",
            Self::Unknown => "unknown",
            Self::Executed => "executed",
        }
    }
}

/// What the sink has of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Rejections that are shown.
    Shown,
    /// Rejections that the question passes over.
    PassedOver,
    /// Nothing that whoever asks may read.
    NothingToRead,
    /// Nothing.
    Nothing,
}

/// What a frame's list means, for people; `keep_for` is how long the sink keeps a day.
pub fn told(lsn: Lsn, reach: Reach, (kept, keep_for): (Kept, Span)) -> String {
    match (reach, kept) {
        (Reach::NotGiven { last }, _) if lsn == Lsn::ZERO => {
            format!(
                "no frame has the number 0: they are counted from 1, and the last one is {last}"
            )
        }
        (Reach::NotGiven { last }, _) => format!("no such frame yet: the last one is {last}"),
        (Reach::InLog, _) => format!(
            "frame {lsn} is not executed yet; what is refused of it is listed once it is: ask again then"
        ),
        (Reach::Unknown, Kept::Nothing | Kept::NothingToRead) => format!(
            "frame {lsn} may not be executed yet, and then what is refused of it is not listed yet: a running server \
             knows, --url asks it; without one the next start executes it"
        ),
        (Reach::Executed | Reach::Unknown, Kept::Shown) => format!("frame {lsn} is executed"),
        (Reach::Executed | Reach::Unknown, Kept::PassedOver) => format!(
            "frame {lsn} is executed, and what was refused of it is of another state, or not what else is asked for: \
             lsn={lsn}&state=all shows it (rejects ls --lsn {lsn} --all)"
        ),
        (Reach::Executed, Kept::NothingToRead) => {
            format!("frame {lsn} is executed, and nothing that you may read was refused of it")
        }
        (Reach::Executed, Kept::Nothing) if keep_for.0.is_zero() => {
            format!("frame {lsn} is executed, and nothing of it was refused")
        }
        (Reach::Executed, Kept::Nothing) => format!(
            "frame {lsn} is executed, and nothing of it was refused in the last {keep_for}, for which rejections are \
             kept (rejects.keep_for)"
        ),
    }
}

/// How far the engine got with a frame. To be asked before the list is read: what is executed in between is listed,
/// or called in the log, and never the other way.
pub(super) fn reach(app: &App, lsn: Lsn) -> Reach {
    let applied = app.ingest.applied();
    Reach::of(lsn, (app.ingest.appended(), applied))
}

/// What the list of a frame means that `caller` has read.
///
/// # Errors
///
/// [`Fault`] 503 while the sink is away.
pub(super) async fn of_frame(
    app: &App,
    caller: &Caller,
    (lsn, reach): (Lsn, Reach),
    is_empty: bool,
) -> Result<Value, Fault> {
    let kept = if !is_empty {
        Kept::Shown
    } else if is_anything(app, caller, lsn).await? {
        Kept::PassedOver
    } else if caller.read == Scope::All {
        Kept::Nothing
    } else {
        Kept::NothingToRead
    };
    let mut message = told(lsn, reach, (kept, app.rejects.keep_for));
    if let (Reach::InLog, Some(fault)) = (reach, app.engine.state().fault) {
        message = format!("{message}; {}", patience::not_serving(&fault));
    }
    Ok(json!({ "lsn": lsn, "state": reach.name(), "message": message }))
}

/// Whether the sink has anything of a frame that `caller` may read.
async fn is_anything(app: &App, caller: &Caller, lsn: Lsn) -> Result<bool, Fault> {
    let query = Query { lsn: Some(lsn), limit: 1, ..Query::all() };
    Ok(!app.rejects.page(query, caller).await?.rejections.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_given_in_the_log_or_executed() {
        let reach = |lsn| Reach::of(Lsn(lsn), (Lsn(9), Lsn(7)));
        assert_eq!(reach(7), Reach::Executed);
        assert_eq!([reach(8), reach(9)], [Reach::InLog; 2]);
        assert_eq!([reach(0), reach(10)], [Reach::NotGiven { last: Lsn(9) }; 2]);
    }

    #[test]
    fn an_empty_list_says_what_it_means() {
        let told = |reach, kept| told(Lsn(5), reach, (kept, Span::secs(0)));
        for (reach, kept, part) in [
            (Reach::InLog, Kept::Nothing, "frame 5 is not executed yet"),
            (
                Reach::NotGiven { last: Lsn(4) },
                Kept::Nothing,
                "no such frame yet: the last one is 4",
            ),
            (Reach::Executed, Kept::Nothing, "executed, and nothing of it was refused"),
            (Reach::Executed, Kept::PassedOver, "state=all"),
            (Reach::Executed, Kept::NothingToRead, "nothing that you may read was refused"),
            (Reach::Unknown, Kept::Nothing, "may not be executed"),
        ] {
            assert!(told(reach, kept).contains(part), "{}", told(reach, kept));
        }
        let swept = super::told(Lsn(5), Reach::Executed, (Kept::Nothing, Span::secs(172_800)));
        assert!(swept.contains("keep_for"), "{swept}");
    }
}
