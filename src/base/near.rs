//! Which of the names that there are was meant by one that is written wrong.

/// Names that differ in more letters than one in so many are not taken for each other.
const LETTERS_A_SLIP: usize = 3;

/// The one of `known` that `found` was probably to be, if any is near enough.
pub fn nearest<'k>(found: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let (slips, known) = known.map(|known| (slips(found, known), known)).min()?;
    let is_near = slips <= (known.len() / LETTERS_A_SLIP).max(1) && slips < known.len();
    is_near.then_some(known)
}

/// In how many letters two names differ: the least number of letters to put in, leave out, change, or swap
/// with their neighbour.
fn slips(a: &str, b: &str) -> usize {
    let [a, b] = [a, b].map(|text| text.chars().collect::<Vec<char>>());
    let mut slips = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            if i == 0 || j == 0 {
                slips[i][j] = i + j;
                continue;
            }
            let changed = slips[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let least = changed.min(slips[i - 1][j] + 1).min(slips[i][j - 1] + 1);
            let are_swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            slips[i][j] = if are_swapped { least.min(slips[i - 2][j - 2] + 1) } else { least };
        }
    }
    slips[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_is_found_where_one_is_near() {
        for (found, meant) in [
            ("precison", Some("precision")),
            ("Db", Some("db")),
            ("database", None),
            ("tabel", Some("table")),
            ("x", None),
            ("data", None),
        ] {
            assert_eq!(nearest(found, ["db", "table", "precision"].into_iter()), meant, "{found}");
        }
        assert_eq!(nearest("db", std::iter::empty()), None);
    }

    #[test]
    fn slips_are_counted_as_letters() {
        for (a, b, count) in [
            ("", "", 0),
            ("a", "", 1),
            ("wal", "wal", 0),
            ("metric", "metrics", 1),
            ("tsl", "tls", 1),
        ] {
            assert_eq!(slips(a, b), count, "{a} {b}");
            assert_eq!(slips(b, a), count, "{b} {a}");
        }
    }
}
