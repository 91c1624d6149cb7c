//! Decompression of a body as it arrives, bounded: memory is asked for before it is filled, and the
//! end of a compressed stream is checked, so that a cut-off body is never taken for a whole one.

use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder as Zstd, InBuffer, Operation, OutBuffer};

/// Most bytes of history that a zstd body may ask to keep, as a power of two: 8 MiB.
/// Source: RFC 8878, 3.1.1.1.2, which recommends decoders to support at least that much.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Bytes of output that are asked for first.
const FIRST_OUTPUT_BYTES: usize = 64 << 10;

/// The history of deflate, as a power of two. Source: RFC 1951.
const DEFLATE_WINDOW_BITS: u8 = 15;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// RFC 1952; several members may follow one another.
    Gzip,
    /// RFC 1950, or RFC 1951 alone, which some clients send under the same name.
    Deflate,
    /// RFC 8878; several frames may follow one another.
    Zstd,
}

/// Why a body could not be decompressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InflateError<E> {
    /// The bytes are not what the encoding says.
    #[error("body is not {name}: {what}")]
    Malformed {
        /// The encoding.
        name: &'static str,
        /// What the decompressor says.
        what: String,
    },
    /// The bytes end before the compressed stream does.
    #[error("body is cut off: unexpected end of {name}")]
    CutOff {
        /// The encoding.
        name: &'static str,
    },
    /// More output than allowed.
    #[error(
        "body is larger than {bytes_max} bytes after decompression (server.inflated_bytes_max)"
    )]
    TooLarge {
        /// Most bytes of output.
        bytes_max: usize,
    },
    /// The memory for more output was refused.
    #[error("no memory for more output")]
    Refused(E),
}

/// Asks for memory before it is used.
pub trait Reserve {
    /// Why it was refused.
    type Error;

    /// Asks for `bytes` more.
    ///
    /// # Errors
    ///
    /// When there is none; nothing more is reserved.
    fn reserve(&mut self, bytes: usize) -> Result<(), Self::Error>;
}

/// One body being decompressed.
pub struct Inflate {
    encoding: Encoding,
    engine: Engine,
    /// Whether the stream is between two members, where it may end.
    is_between: bool,
    /// Whether any byte came.
    is_begun: bool,
    out: Vec<u8>,
    bytes_max: usize,
}

enum Engine {
    Flate(Decompress),
    /// Deflate, until its first two bytes tell whether it has a zlib header.
    Undecided(Vec<u8>),
    Zstd(Box<Zstd<'static>>),
}

/// What one step did.
struct Step {
    consumed: usize,
    /// Whether a member ended with it.
    is_end: bool,
}

impl Encoding {
    /// Its name in `Content-Encoding`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }

    /// The encoding with this name, in any letter case.
    pub fn from_name(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "deflate" => Some(Self::Deflate),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

impl Inflate {
    /// A decompressor that gives out at most `bytes_max` bytes.
    ///
    /// # Errors
    ///
    /// When there is no memory for the decompressor's own state.
    pub fn new(encoding: Encoding, bytes_max: usize) -> std::io::Result<Self> {
        let engine = match encoding {
            Encoding::Gzip => Engine::Flate(Decompress::new_gzip(DEFLATE_WINDOW_BITS)),
            Encoding::Deflate => Engine::Undecided(Vec::new()),
            Encoding::Zstd => {
                let mut zstd = Zstd::new()?;
                zstd.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))?;
                Engine::Zstd(Box::new(zstd))
            }
        };
        Ok(Self { encoding, engine, is_between: true, is_begun: false, out: Vec::new(), bytes_max })
    }

    /// Decompresses `input`, the next bytes of the body.
    ///
    /// # Errors
    ///
    /// [`InflateError`]; the body is then of no use.
    pub fn push<R: Reserve>(
        &mut self,
        input: &[u8],
        memory: &mut R,
    ) -> Result<(), InflateError<R::Error>> {
        if let Engine::Undecided(head) = &mut self.engine {
            head.extend_from_slice(input);
            let Some(first_two) = head.first_chunk::<2>() else { return Ok(()) };
            let is_zlib = has_zlib_header(*first_two);
            let head = std::mem::take(head);
            self.engine = Engine::Flate(Decompress::new(is_zlib));
            return self.run(&head, memory);
        }
        self.run(input, memory)
    }

    fn run<R: Reserve>(
        &mut self,
        mut input: &[u8],
        memory: &mut R,
    ) -> Result<(), InflateError<R::Error>> {
        while !input.is_empty() {
            if self.is_between && self.is_begun {
                self.begin_member()?;
            }
            (self.is_begun, self.is_between) = (true, false);
            self.make_room(memory)?;
            let room = self.out.capacity() - self.out.len();
            let before = self.out.len();
            let step = self.step(input)?;
            self.is_between = step.is_end;
            let produced = self.out.len() - before;
            if step.consumed == 0 && produced == 0 && !step.is_end {
                return Err(self.malformed("it does not go on"));
            }
            input = &input[step.consumed..];
            // All input is taken, but output may wait inside for room.
            while input.is_empty() && !self.is_between && self.out.len() == self.out.capacity() {
                self.make_room(memory)?;
                let before = self.out.len();
                self.is_between = self.step(&[])?.is_end;
                if self.out.len() == before {
                    break;
                }
            }
            debug_assert!(room > 0, "room is made before each step");
        }
        Ok(())
    }

    /// The whole output, after the last byte of the body.
    ///
    /// # Errors
    ///
    /// [`InflateError::CutOff`] when the stream has not ended.
    pub fn finish<E>(self) -> Result<Vec<u8>, InflateError<E>> {
        // An empty body is what agents send that have nothing to say; it is no stream, and no error.
        let is_whole = match self.engine {
            Engine::Undecided(head) => head.is_empty(),
            Engine::Flate(_) | Engine::Zstd(_) => self.is_between,
        };
        if !is_whole {
            return Err(InflateError::CutOff { name: self.encoding.name() });
        }
        Ok(self.out)
    }

    fn begin_member<E>(&mut self) -> Result<(), InflateError<E>> {
        match (&mut self.engine, self.encoding) {
            (Engine::Flate(gzip), Encoding::Gzip) => {
                *gzip = Decompress::new_gzip(DEFLATE_WINDOW_BITS);
                Ok(())
            }
            (Engine::Zstd(zstd), _) => {
                zstd.reinit().map_err(|error| self.malformed(&error.to_string()))
            }
            _ => Err(self.malformed("bytes follow its end")),
        }
    }

    /// Makes room for at least one byte of output, asking for the memory first.
    fn make_room<R: Reserve>(&mut self, memory: &mut R) -> Result<(), InflateError<R::Error>> {
        let capacity = self.out.capacity();
        if self.out.len() < capacity {
            return Ok(());
        }
        if self.out.len() > self.bytes_max {
            return Err(InflateError::TooLarge { bytes_max: self.bytes_max });
        }
        let doubled = capacity.saturating_mul(2).max(FIRST_OUTPUT_BYTES).min(self.bytes_max);
        memory.reserve(doubled.saturating_sub(capacity)).map_err(InflateError::Refused)?;
        // One byte more than allowed, so that a body of just that size can end. It is not asked for: where the
        // memory for all requests is no more than one may take, the largest would never get it.
        let spare = usize::from(doubled == self.bytes_max);
        self.out.reserve_exact(doubled + spare - capacity);
        Ok(())
    }

    fn step<E>(&mut self, input: &[u8]) -> Result<Step, InflateError<E>> {
        let step = match &mut self.engine {
            Engine::Undecided(_) => unreachable!("decided before the first step"),
            Engine::Flate(flate) => {
                let before = flate.total_in();
                let ran = flate.decompress_vec(input, &mut self.out, FlushDecompress::None);
                let consumed = usize::try_from(flate.total_in() - before)
                    .expect("no more is consumed than there was");
                ran.map(|status| Step { consumed, is_end: status == Status::StreamEnd })
                    .map_err(|error| error.to_string())
            }
            Engine::Zstd(zstd) => {
                let mut from = InBuffer::around(input);
                let at = self.out.len();
                let mut to = OutBuffer::around_pos(&mut self.out, at);
                let ran = zstd.run(&mut from, &mut to);
                ran.map(|hint| Step { consumed: from.pos(), is_end: hint == 0 })
                    .map_err(|error| error.to_string())
            }
        };
        let step = step.map_err(|what| self.malformed(&what))?;
        if self.out.len() > self.bytes_max {
            return Err(InflateError::TooLarge { bytes_max: self.bytes_max });
        }
        Ok(step)
    }

    fn malformed<E>(&self, what: &str) -> InflateError<E> {
        InflateError::Malformed { name: self.encoding.name(), what: what.to_owned() }
    }
}

/// Whether a deflate body begins with a zlib header. Source: RFC 1950, 2.2.
fn has_zlib_header([method, flags]: [u8; 2]) -> bool {
    method & 0x0f == 8 && (u16::from(method) << 8 | u16::from(flags)) % 31 == 0
}

#[cfg(test)]
mod tests;
