//! What is fed.

mod frames;
mod inbound;
mod journals;
mod ledger;
mod passes;
mod programs;

/// One decoder, with what must never come of it.
pub trait Target {
    /// Also the folder of its corpus.
    fn name(&self) -> &'static str;

    /// Real encodings.
    fn seeds(&self) -> Vec<Vec<u8>>;

    /// Feeds one input. `Ok`: how it was answered. `Err`: a bug.
    fn feed(&mut self, input: &[u8]) -> Result<String, String>;

    /// After a bug, where something is left behind.
    fn renew(&mut self) {}
}

/// All targets.
pub fn all() -> anyhow::Result<Vec<Box<dyn Target>>> {
    let mut all = ledger::all()?;
    all.extend(passes::all()?);
    all.extend(journals::all()?);
    all.push(Box::new(frames::Frames));
    all.push(Box::new(inbound::Inbound::new()?));
    all.extend(programs::all()?);
    Ok(all)
}

/// A decoder that is a function.
pub struct Plain<F> {
    name: &'static str,
    seeds: Vec<Vec<u8>>,
    feed: F,
}

impl<F: FnMut(&[u8]) -> Result<String, String>> Target for Plain<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn seeds(&self) -> Vec<Vec<u8>> {
        self.seeds.clone()
    }

    fn feed(&mut self, input: &[u8]) -> Result<String, String> {
        (self.feed)(input)
    }
}

/// A target of a function.
pub fn plain<F>(name: &'static str, seeds: Vec<Vec<u8>>, feed: F) -> Box<dyn Target>
where
    F: FnMut(&[u8]) -> Result<String, String> + 'static,
{
    Box::new(Plain { name, seeds, feed })
}

/// Fails unless `holds`.
pub fn must(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}
