//! Entries of a zip, one after the other.

use std::io;

use super::super::coding::{Coding, deflate};
use super::super::container::{Archive, Payload, zip};
use super::super::spool::{Input, Plain, peek};
use super::super::stream::{Decoding, Family, Span};
use super::Walk;

impl Walk<'_> {
    /// Gives out the entries of a zip from `at` on, as far as they are right.
    pub(super) fn zip(
        &mut self,
        input: &mut dyn Input,
        start: u64,
        end: u64,
        depth: u8,
    ) -> io::Result<Option<u64>> {
        let mut at = start;
        while self.budget.member() {
            let Some(next) = self.zip_entry(input, at, end, depth)? else { break };
            at = next;
        }
        Ok((at > start).then_some(at))
    }

    fn zip_entry(&mut self, input: &mut dyn Input, at: u64, end: u64, depth: u8) -> io::Result<Option<u64>> {
        let header = peek(input, at, end, zip::HEADER_LEN)?;
        let Some(local) = header.first_chunk().and_then(zip::local) else { return Ok(None) };
        let data = at + local.header;
        let layout = Archive::Zip.layout(&header);
        match layout {
            Some(layout) if layout.len().is_some_and(|len| len <= end - at) => {
                let after = data + layout.stored;
                match layout.payload {
                    Payload::Deflated => {
                        let known = Some((after, layout.plain));
                        self.deflated(input, at, data, after, known, depth)?;
                    }
                    Payload::Member | Payload::Frames => {
                        let worth_it = self.is_worth_it(input, data, layout.plain, depth + 1)?;
                        if !worth_it && self.emit.stored_entry() {
                            self.emit.copy_frames(input, at, local.header)?;
                            self.emit.copy_member(input, data, layout.plain)?;
                        } else {
                            self.emit.frames(input, at, local.header)?;
                            self.file(input, data, layout.plain, depth + 1)?;
                        }
                    }
                }
                Ok(Some(after))
            }
            None if local.has_descriptor() && local.flags & 1 == 0 && local.method == 8 && data < end => {
                self.deflated(input, at, data, end, None, depth)
            }
            _ => Ok(None),
        }
    }

    /// Gives out an entry whose data is deflated, and says where the next one begins.
    ///
    /// `known` is where the data ends and what it comes to, where the header tells it.
    fn deflated(
        &mut self,
        input: &mut dyn Input,
        at: u64,
        data: u64,
        end: u64,
        known: Option<(u64, u64)>,
        depth: u8,
    ) -> io::Result<Option<u64>> {
        let mut plain = Plain::new();
        let mut decoding = Decoding { limits: self.limits, budget: &mut self.budget, spools: self.spools };
        let span = decoding.span(&mut deflate::Inflater::new(), input, data, end, &mut plain)?;
        let span = span.filter(|span| known.is_none_or(|known| known == (span.end, span.plain)));
        let next = match (known, span) {
            (Some((after, _)), _) => Some(after),
            (None, Some(span)) => {
                let bytes = peek(input, span.end, end, zip::DESCRIPTOR_LEN_MAX)?;
                zip::descriptor_len(&bytes, span.end - span.start, span.plain).map(|len| span.end + len)
            }
            (None, None) => None,
        };
        let Some(next) = next else { return Ok(None) };
        let Some(span) = span else {
            self.emit.frames(input, at, data - at)?;
            self.emit.member(input, data, next - data)?;
            return Ok(Some(next));
        };
        self.deflated_span(input, at, span, &mut plain, known.is_some(), depth)?;
        self.emit.frames(input, span.end, next - span.end)?;
        Ok(Some(next))
    }

    /// Gives out the header at `at` and what is deflated after it.
    fn deflated_span(
        &mut self,
        input: &mut dyn Input,
        at: u64,
        span: Span,
        plain: &mut Plain,
        is_told: bool,
        depth: u8,
    ) -> io::Result<()> {
        let found = match &mut self.search {
            Some(search) if self.emit.has_room() => {
                search.find(Family::Deflate, &[span], input, plain, self.limits)?
            }
            _ => None,
        };
        let len = plain.len();
        let worth_it = self.is_worth_it(plain, 0, len, depth + 1)?;
        match found {
            Some(found) if is_told && !worth_it && found.coding != Coding::Corrected => {
                self.emit.deflated_entry(found.coding, len);
                self.emit.copy_frames(input, at, span.start - at)?;
                self.emit.copy_member(plain, 0, len)
            }
            None if self.search.is_some() => {
                self.emit.frames(input, at, span.start - at)?;
                self.emit.member(input, span.start, span.end - span.start)
            }
            found => {
                self.emit.frames(input, at, span.start - at)?;
                let is_encoded = found.is_some();
                if let Some(found) = found {
                    self.emit.begin(found, len);
                }
                self.file(plain, 0, len, depth + 1)?;
                if is_encoded {
                    self.emit.end();
                }
                self.undecoded(input, span.start, span.end)
            }
        }
    }
}
