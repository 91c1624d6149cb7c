//! Which way rows are written that nobody has met yet: by what the shard met last.
//!
//! | way | server's work, us a row | is right for |
//! |---|---:|---|
//! | COPY | 2.6 | rows that are all new: one that stands undoes the turn |
//! | `UPDATE`, and what it did not find by the next | 6.8 | rows that nearly all stand |
//! | `INSERT .. ON CONFLICT DO UPDATE` | 6.5 new, 9 standing | either, and nobody knows which |
//!
//! (26 columns on PostgreSQL 15; `benches/README.md` has more.) A shard begins with COPY. Where a turn is
//! lost to a row that stands, it upserts until as many turns as the pause has met new rows only; the pause
//! doubles with each loss and shrinks with each turn that is copied.

/// Longest pause, in turns that met new rows only: at most one turn in so many is lost where the guess is
/// always wrong.
const COPY_REST_MAX: u32 = 256;

/// How the first record of each key is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Firsts {
    /// By COPY, in the hope that all are new; [`super::copy::met_duplicate`] tells that one was not, and
    /// that the transaction is undone.
    Copied,
    /// By an `UPDATE`, in the hope that most stand with a lower version.
    Updated,
    /// By a statement that does not care.
    Upserted,
}

/// How many rows were met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Met {
    new: usize,
    updated: usize,
    /// Those that stood with the same version or a higher one, or as another kind.
    other: usize,
}

impl Met {
    /// Counts a row, by whether it is new where it was written at all.
    pub(super) const fn add(&mut self, written: Option<bool>) {
        match written {
            Some(true) => self.new += 1,
            Some(false) => self.updated += 1,
            None => self.other += 1,
        }
    }

    const fn all(self) -> usize {
        self.new + self.updated + self.other
    }
}

/// What a shard expects.
#[derive(Debug)]
pub(super) struct Guess {
    /// Turns of new rows that must pass until rows are copied again.
    left: u32,
    /// What `left` was set to the last time.
    pause: u32,
    /// Whether nearly all rows of the last statement were updated.
    mostly_stand: bool,
    /// What the open turn has met.
    turn: Met,
}

impl Default for Guess {
    fn default() -> Self {
        Self { left: 0, pause: 1, mostly_stand: false, turn: Met::default() }
    }
}

impl Guess {
    /// The way for the next statement.
    pub(super) const fn how(&self) -> Firsts {
        match (self.left, self.mostly_stand) {
            (0, _) => Firsts::Copied,
            (_, true) => Firsts::Updated,
            (_, false) => Firsts::Upserted,
        }
    }

    /// A statement is executed.
    pub(super) fn met(&mut self, met: Met) {
        self.turn.new += met.new;
        self.turn.updated += met.updated;
        self.turn.other += met.other;
        // Two bounds, so that a share near one of them does not change the way each time: an UPDATE that
        // finds half is as cheap as none.
        let least_percent = if self.mostly_stand { 50 } else { 90 };
        self.mostly_stand = met.all() > 0 && met.updated * 100 >= met.all() * least_percent;
    }

    /// A row that was copied stands already.
    pub(super) fn lost(&mut self) {
        self.pause = (self.pause * 2).min(COPY_REST_MAX);
        self.left = self.pause;
        self.turn = Met::default();
    }

    /// The turn is undone, for whatever reason.
    pub(super) fn undone(&mut self) {
        self.turn = Met::default();
    }

    /// The turn is committed.
    pub(super) fn done(&mut self) {
        let turn = std::mem::take(&mut self.turn);
        let is_all_new = turn.new > 0 && turn.new == turn.all();
        match (is_all_new, self.left) {
            (false, _) => {}
            (true, 0) => self.pause = (self.pause - 1).max(1),
            (true, _) => self.left -= 1,
        }
        assert!((1..=COPY_REST_MAX).contains(&self.pause) && self.left <= self.pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(guess: &mut Guess, new: usize, updated: usize, other: usize) {
        guess.met(Met { new, updated, other });
        guess.done();
    }

    #[test]
    fn rows_that_stand_are_copied_at_most_once_in_a_pause_and_then_updated() {
        let mut guess = Guess::default();
        assert_eq!(guess.how(), Firsts::Copied);
        guess.lost();
        for _ in 0..1_000 {
            turn(&mut guess, 0, 100, 0);
            assert_eq!(guess.how(), Firsts::Updated, "they are never new again");
        }
        turn(&mut guess, 60, 40, 0);
        assert_eq!(guess.how(), Firsts::Upserted);
        turn(&mut guess, 20, 80, 0);
        assert_eq!(guess.how(), Firsts::Upserted, "not nearly all");
        turn(&mut guess, 10, 90, 0);
        assert_eq!(guess.how(), Firsts::Updated);
        turn(&mut guess, 50, 50, 0);
        assert_eq!(guess.how(), Firsts::Updated, "half is enough to stay");
        turn(&mut guess, 0, 0, 100);
        assert_eq!(guess.how(), Firsts::Upserted, "repeats are read anyway");
    }

    #[test]
    fn rows_are_copied_again_behind_as_many_turns_of_new_ones_as_the_pause_says() {
        let mut guess = Guess::default();
        for expected in [2, 4, 8, 16, 32, 64, 128, 256, 256] {
            guess.lost();
            let mut turns = 0;
            while guess.how() != Firsts::Copied {
                turn(&mut guess, 5, 0, 0);
                turn(&mut guess, 0, 0, 0);
                turns += 1;
            }
            assert_eq!(turns, expected);
        }
        for _ in 0..254 {
            turn(&mut guess, 5, 0, 0);
        }
        guess.lost();
        assert_eq!((guess.left, guess.pause), (4, 4), "what was copied counts for it");
    }

    #[test]
    fn a_turn_that_is_undone_counts_for_nothing() {
        let mut guess = Guess::default();
        guess.lost();
        guess.met(Met { new: 0, updated: 1, other: 0 });
        guess.undone();
        turn(&mut guess, 1, 0, 0);
        turn(&mut guess, 1, 0, 0);
        assert_eq!(guess.how(), Firsts::Copied);
    }
}
