//! Lists in parts: the token says after which names the next part begins, so that what was made or
//! deleted meanwhile moves nothing twice and skips nothing.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use super::exception::Exception;
use super::input::Checks;
use crate::engine::catalog::Page;

/// Most items of a part, and how many unless fewer are asked for.
/// Source: Timestream API, `PaginationLimit`.
pub const ITEMS_MAX: i64 = 20;

/// What tokens of another form are told by.
const FORM: &str = "1";

/// Between the parts of a token: no name holds it.
const SEPARATOR: char = '\0';

/// How many items are asked for.
pub fn items(checks: &mut Checks, asked: Option<i64>) -> usize {
    let items = asked.unwrap_or(ITEMS_MAX);
    checks.range("maxResults", items, &(1..=ITEMS_MAX));
    usize::try_from(items).unwrap_or_default()
}

/// A token for what comes after these names.
pub fn token(names: &[&str]) -> String {
    let mut text = FORM.to_owned();
    for name in names {
        text.push(SEPARATOR);
        text.push_str(name);
    }
    BASE64.encode(text)
}

/// The names in a token; none without one.
///
/// # Errors
///
/// [`Exception`] 400 for a token that was not given out for a list of this kind.
pub fn names<const N: usize>(token: Option<&str>) -> Result<Option<[String; N]>, Exception> {
    let Some(token) = token else { return Ok(None) };
    let wrong = || Exception::invalid("The NextToken was not given out by this operation.");
    let bytes = BASE64.decode(token).map_err(|_no_base64| wrong())?;
    let text = String::from_utf8(bytes).map_err(|_no_text| wrong())?;
    let mut parts = text.split(SEPARATOR);
    if parts.next() != Some(FORM) {
        return Err(wrong());
    }
    let names: Vec<String> = parts.map(str::to_owned).collect();
    names.try_into().map(Some).map_err(|_other_count: Vec<String>| wrong())
}

/// Collects up to `items` that `is_visible`, and says whether there are more. `fetch` gives the part
/// of the list that comes after an item.
pub fn collect<T: Clone>(
    items: usize,
    fetch: impl Fn(Option<&T>) -> Page<T>,
    is_visible: impl Fn(&T) -> bool,
) -> (Vec<T>, bool) {
    let mut found = Vec::with_capacity(items);
    let mut last = None;
    loop {
        let page = fetch(last.as_ref());
        for item in page.items {
            last = Some(item.clone());
            if !is_visible(&item) {
                continue;
            }
            if found.len() == items {
                return (found, true);
            }
            found.push(item);
        }
        if !page.has_more {
            return (found, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_again_by_its_own_operation_only() {
        let given = token(&["fleet", "cpu"]);
        assert_eq!(names(Some(&given)), Ok(Some(["fleet".to_owned(), "cpu".to_owned()])));
        assert_eq!(names::<1>(None), Ok(None));
        assert!(names::<1>(Some(&given)).is_err());
        for odd in ["", "x", "!!", "AAAA"] {
            assert!(names::<1>(Some(odd)).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_list_in_parts_holds_each_visible_item_once() {
        let all: Vec<u32> = (0..50).collect();
        let from = |after: Option<&u32>| {
            let from = after.map_or(0, |after| *after as usize + 1);
            let items: Vec<u32> = all.iter().skip(from).take(7).copied().collect();
            Page { has_more: from + items.len() < all.len(), items }
        };
        for (visible, items) in [(1, 7), (1, 50), (3, 5), (3, 17), (100, 2)] {
            let (mut found, mut after) = (Vec::new(), None);
            loop {
                let fetch = |last: Option<&u32>| from(last.or(after.as_ref()));
                let (part, has_more) = collect(items, fetch, |item| item % visible == 0);
                assert!(part.len() == items || !has_more);
                after = part.last().copied().or(after);
                found.extend(part);
                if !has_more {
                    break;
                }
            }
            assert_eq!(found, (0..50).filter(|item| item % visible == 0).collect::<Vec<_>>());
        }
    }
}
