//! Packed frames of a thin link, as they are read upstream: each becomes the frame that it was before it was packed, byte for byte.

use sled_data::{LINKED_PARTS_MAX, OriginId, PartitionId, Repacker, TopicId};
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

use super::pack::{APART, CONTENT_BYTES_MAX, DICTIONARY, DICTIONARY_BYTES, Head, Memory, WINDOW_LOG};
use super::wire::{BATCH, FRAME_BYTES_MAX, HOLE, PACKED, PARTS, WireError, put_part, take};

const NO_DICTIONARY: WireError = WireError::Form("a packed frame's dictionary is not known");
const NO_STREAM: WireError = WireError::Form("a packed frame does not decompress");
const EARLY: WireError = WireError::Form("it ends early");

/// Reads the packed frames of one stream.
pub struct Unpacker {
    decoder: Decoder<'static>,
    repacker: Repacker,
    memory: Memory,
}

/// The unpacker of a stream, which is made when the first packed frame comes.
#[derive(Default)]
pub struct Unpacking(Option<Box<Unpacker>>);

/// Whether a frame is a packed one.
pub fn is_packed(frame: &[u8]) -> bool {
    frame.first() == Some(&PACKED)
}

impl Unpacking {
    /// The frame as it is when it is not packed. `held` is let go of where that fails, and not before it has ended, though
    /// nobody waits for it any more.
    ///
    /// # Errors
    /// What is wrong with it.
    pub async fn plain<H: Send + 'static>(&mut self, frame: Vec<u8>, held: H) -> Result<(Vec<u8>, H), WireError> {
        if !is_packed(&frame) {
            return Ok((frame, held));
        }
        let unpacker = self.0.take();
        // It computes for a while where the frame is large.
        let done = tokio::task::spawn_blocking(move || {
            let mut unpacker = match unpacker {
                Some(unpacker) => unpacker,
                None => Box::new(Unpacker::new()?),
            };
            let plain = unpacker.plain(&frame)?;
            Ok::<_, WireError>((unpacker, plain, held))
        });
        let (unpacker, plain, held) = done.await.map_err(|_| NO_STREAM)??;
        self.0 = Some(unpacker);
        Ok((plain, held))
    }
}

impl Unpacker {
    /// At the beginning of a stream.
    pub(super) fn new() -> Result<Self, WireError> {
        let mut decoder = Decoder::with_dictionary(DICTIONARY_BYTES).map_err(|_| NO_STREAM)?;
        decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).map_err(|_| NO_STREAM)?;
        Ok(Self { decoder, repacker: Repacker::default(), memory: Memory::default() })
    }

    pub(super) fn plain(&mut self, frame: &[u8]) -> Result<Vec<u8>, WireError> {
        let mut rest = frame;
        let [_, dictionary] = take(&mut rest)?;
        if dictionary != DICTIONARY {
            return Err(NO_DICTIONARY);
        }
        let length = u32::from_be_bytes(take(&mut rest)?) as usize;
        if length > CONTENT_BYTES_MAX {
            return Err(WireError::Form("a packed frame is too long"));
        }
        let content = self.decompress(rest, length)?;
        let mut rest = &content[..];
        let number: [u8; 8] = take(&mut rest)?;
        let origin: [u8; 8] = take(&mut rest)?;
        let check = u32::from_be_bytes(take(&mut rest)?);
        let mut plain = Vec::with_capacity(content.len());
        plain.push(PARTS);
        plain.extend_from_slice(&number);
        plain.extend_from_slice(&origin);
        let origin = OriginId(u64::from_be_bytes(origin));
        let mut parts = 0;
        while !rest.is_empty() {
            parts += 1;
            if parts > LINKED_PARTS_MAX || plain.len() > FRAME_BYTES_MAX {
                return Err(WireError::Form("a packed frame becomes too long"));
            }
            let [kind] = take(&mut rest)?;
            if kind == APART {
                let batch = self.put_together(origin, &mut rest)?;
                put_part(BATCH, &batch, &mut plain);
                continue;
            }
            if kind != BATCH && kind != HOLE {
                return Err(WireError::Form("a part's kind is not known"));
            }
            let length = u32::from_be_bytes(take(&mut rest)?) as usize;
            let (bytes, after) = rest.split_at_checked(length).ok_or(EARLY)?;
            rest = after;
            put_part(kind, bytes, &mut plain);
        }
        if crc32c::crc32c(&plain) == check { Ok(plain) } else { Err(WireError::Differs) }
    }

    fn put_together(&mut self, origin: OriginId, rest: &mut &[u8]) -> Result<Vec<u8>, WireError> {
        const HEAD: WireError = WireError::Form("a packed batch's head");
        let (head, after) = postcard::take_from_bytes::<Head>(rest).map_err(|_| HEAD)?;
        *rest = after;
        if self.memory.is_new(&head) {
            let ((topic, index), after) = postcard::take_from_bytes(rest).map_err(|_| HEAD)?;
            *rest = after;
            self.memory.name(PartitionId { origin, topic: TopicId(topic), index });
        }
        let (records, after) = rest.split_at_checked(head.bytes as usize).ok_or(EARLY)?;
        *rest = after;
        let apart = self.memory.apart(&head, records.to_vec()).ok_or(HEAD)?;
        let batch = self.repacker.pack(apart)?;
        self.memory.read(&head, batch.next_offset(), batch.envelope().hlc);
        Ok(batch.bytes().to_vec())
    }

    /// Exactly so many bytes, from a flushed piece of the stream.
    fn decompress(&mut self, bytes: &[u8], length: usize) -> Result<Vec<u8>, WireError> {
        let mut out = Vec::new();
        let mut room = vec![0; (128 << 10).min(length + 1)];
        let mut input = InBuffer::around(bytes);
        loop {
            let mut output = OutBuffer::around(&mut room[..]);
            self.decoder.run(&mut input, &mut output).map_err(|_| NO_STREAM)?;
            let got = output.as_slice().len();
            out.extend_from_slice(output.as_slice());
            if out.len() > length {
                return Err(NO_STREAM);
            }
            if input.pos() == bytes.len() && got < room.len() {
                break;
            }
        }
        if out.len() == length { Ok(out) } else { Err(NO_STREAM) }
    }
}
