//! The paths of the API, and the entity that they name. A segment is percent-decoded after the path was
//! split, so that `%2F` is a part of a name and never a separator; an empty segment is an empty name,
//! which the constraints refuse.

use super::exception::invalid;
use crate::api::timestream::exception::Exception;
use crate::protocol::timestream::coral::Violations;

/// What every path of `DataZone`'s API begins with that is about one domain.
const BEGIN: &str = "/v2/domains/";

/// The path that is about all domains.
const ALL: &str = "/v2/domains";

const ENTITIES: &str = "entities";
const POINTS: &str = "time-series-data-points";

/// The types of entities. Source: `DataZone` API, `TimeSeriesEntityType`.
const ENTITY_TYPES: [&str; 2] = ["ASSET", "LISTING"];

const DOMAIN_PATTERN: &str = "^dzd[-_][a-zA-Z0-9_-]{1,36}$";
const ENTITY_PATTERN: &str = "^[a-zA-Z0-9_-]{1,36}$";

/// Most characters of an entity's or a point's id, and of a domain's behind its beginning.
const ID_CHARS_MAX: usize = 36;

/// What a path is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The points of an entity.
    Points,
    /// One of them.
    Point,
}

/// Whom points are about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// The domain's id.
    pub domain: String,
    /// `ASSET` or `LISTING`.
    pub entity_type: String,
    /// Its id.
    pub id: String,
}

/// Whether a path is of this API, whether or not there is anything.
pub fn is_inside(path: &str) -> bool {
    path == ALL || path.starts_with(BEGIN)
}

/// The segments of a path: domain, type, entity, point.
fn segments(path: &str) -> Option<([&str; 3], Option<&str>)> {
    let segments: Vec<&str> = path.strip_prefix(BEGIN)?.split('/').collect();
    match segments[..] {
        [domain, ENTITIES, entity_type, entity, POINTS] => {
            Some(([domain, entity_type, entity], None))
        }
        [domain, ENTITIES, entity_type, entity, POINTS, point] => {
            Some(([domain, entity_type, entity], Some(point)))
        }
        _ => None,
    }
}

impl Shape {
    /// The shape of a path; `None` where there is nothing.
    pub fn of(path: &str) -> Option<Self> {
        segments(path).map(|(_, point)| point.map_or(Self::Points, |_| Self::Point))
    }

    /// Its methods, as the `Allow` header lists them.
    pub const fn allow(self) -> &'static str {
        match self {
            Self::Points => "DELETE, GET, OPTIONS, POST",
            Self::Point => "GET, OPTIONS",
        }
    }
}

/// The entity that a path names, and the point.
///
/// # Errors
///
/// [`Exception`] 400 names every constraint that is violated.
pub fn parse(path: &str) -> Result<(Entity, Option<String>), Exception> {
    let (names, point) = segments(path).ok_or_else(|| invalid("the path names no data points"))?;
    let decoded = |segment: &str| {
        decode(segment).ok_or_else(|| invalid("the path is not valid percent-encoded UTF-8"))
    };
    let entity = Entity {
        domain: decoded(names[0])?,
        entity_type: decoded(names[1])?,
        id: decoded(names[2])?,
    };
    let point = point.map(decoded).transpose()?;
    let mut violations = Violations::default();
    if !is_domain(&entity.domain) {
        violations.no_match("domainIdentifier", &entity.domain, DOMAIN_PATTERN);
    }
    if !ENTITY_TYPES.contains(&entity.entity_type.as_str()) {
        violations.not_in("entityType", &entity.entity_type, &ENTITY_TYPES);
    }
    if !is_id(&entity.id) {
        violations.no_match("entityIdentifier", &entity.id, ENTITY_PATTERN);
    }
    if let Some(point) = point.as_deref().filter(|point| !is_id(point)) {
        violations.no_match("identifier", point, ENTITY_PATTERN);
    }
    violations.finish().map_err(invalid)?;
    Ok((entity, point))
}

/// The entity that a setting lists as `domain/type/entity`.
pub fn listed(text: &str) -> Option<Entity> {
    let [domain, entity_type, id] = text.split('/').collect::<Vec<_>>().try_into().ok()?;
    let is_entity = is_domain(domain) && ENTITY_TYPES.contains(&entity_type) && is_id(id);
    is_entity.then(|| Entity {
        domain: domain.to_owned(),
        entity_type: entity_type.to_owned(),
        id: id.to_owned(),
    })
}

fn is_domain(text: &str) -> bool {
    ["dzd-", "dzd_"].iter().any(|begin| text.strip_prefix(begin).is_some_and(is_id))
}

fn is_id(text: &str) -> bool {
    (1..=ID_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

fn decode(segment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_split_before_it_is_decoded() {
        let of = |path: &str| Shape::of(&format!("/v2/domains/{path}"));
        assert_eq!(of("dzd_a/entities/ASSET/e/time-series-data-points"), Some(Shape::Points));
        assert_eq!(of("dzd_a/entities/ASSET/e%2Fx/time-series-data-points"), Some(Shape::Points));
        assert_eq!(of("/entities///time-series-data-points"), Some(Shape::Points));
        assert_eq!(of("dzd_a/entities/ASSET/e/time-series-data-points/i"), Some(Shape::Point));
        assert_eq!(of("dzd_a/entities/ASSET/e/x/time-series-data-points"), None);
        assert_eq!(of("dzd_a/entities/ASSET/e/time-series-data-points/i/j"), None);
        assert_eq!(of("dzd_a/form-types/x"), None);
    }

    #[test]
    fn names_are_held_against_the_model_at_their_bounds() {
        let long = "x".repeat(36);
        let over = "x".repeat(37);
        for (domain, kind, id, is_good) in [
            ("dzd_a", "ASSET", "e", true),
            (&*format!("dzd-{long}"), "LISTING", &*long, true),
            (&*format!("dzd-{over}"), "ASSET", "e", false),
            ("dzd_", "ASSET", "e", false),
            ("dzdxa", "ASSET", "e", false),
            ("dzd_a", "asset", "e", false),
            ("dzd_a", "ASSET", "", false),
            ("dzd_a", "ASSET", &*over, false),
            ("dzd_a", "ASSET", "e%2Fx", false),
            ("dzd_a", "ASSET", "%65", true),
            ("dzd_a", "ASSET", "%zz", false),
            ("dzd_a", "ASSET", "%+5", false),
            ("dzd_a", "ASSET", "e%0A", false),
        ] {
            let path = format!("/v2/domains/{domain}/entities/{kind}/{id}/time-series-data-points");
            assert_eq!(parse(&path).is_ok(), is_good, "{path}");
        }
    }
}
