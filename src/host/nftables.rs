//! The ruleset of nf_tables and the headers of ipsets, as the kernel tells them.
//!
//! No answer is of one moment: a dump is put together piece by piece, and one that was not marked as interrupted was wrong all
//! the same under a writer. What counts is the number of the ruleset ([`Host::nft_generation`]): the same before and after
//! everything that belongs together. That alone is not enough, since a writer raises the number a little before what it wrote is
//! seen (`nf_tables_commit`: `base_seq`, then `gencursor`): after the first number is read, whoever writes is waited for.

use std::collections::HashSet;
use std::thread::sleep;
use std::time::Duration;

use super::netlink::{Answer, Netlink};
use super::{Error, Host, Source, optional, printable};
use crate::parse::nftables::{
    Chain, Contents, Elements, Fault, Ipset, Map, Message, Question, RuleMessage, Table, generation,
};
use crate::parse::ruleset::{Action, ChainId, Family};

/// A writer that never rests must not hold the look for ever.
const MOST_TRIES: usize = 6;
/// A writer that is done with one table often begins with the next.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// 10,000 services are 40,000 chains with 110,000 rules.
const MOST_CHAINS: usize = 250_000;
const MOST_RULES: usize = 1_000_000;

/// Which parts of a table are read.
pub struct Wanted<'a> {
    /// The names of the chains to begin with; `None` is all of the table.
    pub chains: Option<&'a [&'a str]>,
    /// Whether a jump from a chain (or map) to a chain is followed, by their names.
    pub follow: &'a dyn Fn(&str, &str) -> bool,
    /// Whether the elements of a map that a rule asks are read.
    pub maps: &'a dyn Fn(&Map) -> bool,
}

impl Wanted<'_> {
    /// All chains, rules and verdict maps.
    pub const ALL: Wanted<'static> = Wanted { chains: None, follow: &|_, _| true, maps: &|_| true };
}

/// A table, or the wanted parts of it, as it was at one moment.
#[derive(Debug, Clone)]
pub struct NftTable {
    /// What is in it.
    pub contents: Contents,
    /// The number that the ruleset had then.
    pub generation: u32,
    /// Whether no packet gets to it.
    pub is_dormant: bool,
}

impl Host {
    /// The number of the ruleset of this network namespace: another one after every change but that of a set from the way of a
    /// packet.
    pub fn nft_generation(&self) -> Result<u32, Error> {
        self.nf_tables()?.generation()
    }

    /// The tables of a family.
    pub fn nft_tables(&self, family: Family) -> Result<Vec<Table>, Error> {
        self.nf_tables()?.list(&Question::Tables(family), Table::read)
    }

    /// The number of the ruleset, and the tables of both families: what tells whether anything has changed, in one
    /// conversation.
    pub fn nft_overview(&self) -> Result<(Option<u32>, Vec<Table>), Error> {
        let mut netlink = self.nf_tables()?;
        let (generation, mut tables) = (optional(netlink.generation())?, Vec::new());
        for family in [Family::Ip, Family::Ip6] {
            let found = optional(netlink.list(&Question::Tables(family), Table::read))?.unwrap_or_default();
            tables.extend(found.into_iter().filter(|table| table.family == Some(family)));
        }
        Ok((generation, tables))
    }

    /// The chains of a table, without their rules.
    pub fn nft_chains(&self, family: Family, table: &str) -> Result<Vec<Chain>, Error> {
        let mut chains = self.nf_tables()?.list(&Question::Chains(family), Chain::read)?;
        chains.retain(|chain| chain.table == table);
        Ok(chains)
    }

    /// How many elements a set or map has.
    pub fn nft_set_size(&self, family: Family, table: &str, set: &str) -> Result<usize, Error> {
        let counts = self.nf_tables()?.list(&Question::Elements(family, table, set), |message| {
            Ok(Elements::read(message)?.map(|elements| elements.count()))
        })?;
        Ok(counts.iter().sum())
    }

    /// The ipsets of this network namespace, without their members.
    pub fn ipsets(&self) -> Result<Vec<Ipset>, Error> {
        self.subsystem("ip_set", "ipset")?.list(&Question::Ipsets, Ipset::read)
    }

    /// The wanted parts of a table, all of one moment. Absent where there is no such table.
    pub fn nft_table(&self, family: Family, table: &str, wanted: &Wanted<'_>) -> Result<NftTable, Error> {
        let mut netlink = self.nf_tables()?;
        let mut pause = FIRST_PAUSE;
        for _ in 0..MOST_TRIES {
            let before = netlink.generation()?;
            netlink.settle()?;
            let mut reader = Reader::new(&mut netlink, family, table);
            let read = reader.read(wanted);
            let (contents, is_torn, is_dormant) = (reader.contents, reader.is_torn, reader.is_dormant);
            // What was torn may fail, too.
            if netlink.generation()? == before && !is_torn {
                read?;
                return Ok(NftTable { contents, generation: before, is_dormant });
            }
            sleep(pause);
            pause *= 2;
        }
        Err(Error::Failed(format!(
            "nf_tables: the ruleset changes too often to read {}: {MOST_TRIES} times it was another one at the end",
            printable(table)
        )))
    }

    fn nf_tables(&self) -> Result<Netlink<'_>, Error> {
        self.subsystem("nf_tables", "nf_tables")
    }

    /// Merely asking loads the module (`nfnetlink_rcv_msg`): it is asked only where that changes nothing. A module is there, is
    /// part of the kernel, or can't be loaded because nothing can.
    fn subsystem(&self, module: &str, what: &str) -> Result<Netlink<'_>, Error> {
        if matches!(*self.source, Source::Live) && !self.has_module(module)? {
            return Err(Error::Absent(format!("no {what}: the kernel's module is not loaded")));
        }
        self.netlink()
    }

    pub(super) fn has_module(&self, module: &str) -> Result<bool, Error> {
        if self.exists(&format!("/sys/module/{module}"))? || !self.exists("/proc/modules")? {
            return Ok(true);
        }
        let release = self.read("/proc/sys/kernel/osrelease", 4096)?;
        let path = format!("/lib/modules/{}/modules.builtin", String::from_utf8_lossy(&release).trim());
        let Ok(builtin) = self.read(&path, super::SMALL) else { return Ok(true) };
        let file = format!("/{module}.ko");
        Ok(builtin.split(|byte| *byte == b'\n').any(|line| line.ends_with(file.as_bytes())))
    }
}

impl Netlink<'_> {
    fn generation(&mut self) -> Result<u32, Error> {
        let mut number = None;
        self.ask(&Question::Generation, &mut |message| {
            number = number.or(generation(message));
            Ok(())
        })?;
        number.ok_or_else(|| Error::Failed("nf_tables: no number of the ruleset".to_owned()))
    }

    /// All that a list tells; asked again where it was changed meanwhile.
    fn list<T>(
        &mut self,
        question: &Question<'_>,
        mut read: impl FnMut(&Message<'_>) -> Result<Option<T>, Fault>,
    ) -> Result<Vec<T>, Error> {
        for _ in 0..MOST_TRIES {
            let mut found = Vec::new();
            let answer = self.ask(question, &mut |message| {
                if found.len() < MOST_RULES {
                    found.extend(read(message)?);
                }
                Ok(())
            })?;
            if answer == Answer::Whole {
                return Ok(found);
            }
        }
        Err(Error::Failed(format!("netfilter changes too often to be listed: {MOST_TRIES} times it did meanwhile")))
    }
}

/// One try to read a table.
struct Reader<'a, 'b> {
    netlink: &'a mut Netlink<'b>,
    family: Family,
    table: &'a str,
    contents: Contents,
    is_torn: bool,
    is_dormant: bool,
    rules: usize,
}

impl<'a, 'b> Reader<'a, 'b> {
    fn new(netlink: &'a mut Netlink<'b>, family: Family, table: &'a str) -> Reader<'a, 'b> {
        Reader { netlink, family, table, contents: Contents::default(), is_torn: false, is_dormant: false, rules: 0 }
    }

    fn read(&mut self, wanted: &Wanted<'_>) -> Result<(), Error> {
        let mut to_read = match wanted.chains {
            None => self.all_chains()?,
            Some(names) => self.chains(names)?,
        };
        let tables = self.netlink.list(&Question::Tables(self.family), Table::read)?;
        match tables.iter().find(|table| table.name == self.table) {
            Some(table) => self.is_dormant = table.is_dormant,
            // It may have come just now.
            None if !to_read.is_empty() => self.is_torn = true,
            None => return Err(Error::Absent(format!("no table {} of nf_tables", printable(self.table)))),
        }
        let mut maps: HashSet<u32> = HashSet::new();
        // Those that come later are read later.
        let mut next = 0;
        while let Some(chain) = to_read.get(next).copied() {
            next += 1;
            if self.is_torn {
                return Ok(());
            }
            self.rules_of(chain)?;
            let from = self.contents.rules.get(chain).map(|chain| chain.name().to_owned()).unwrap_or_default();
            let mut at = 0;
            while let Some(rule) = self.contents.rules.get(chain).and_then(|chain| chain.rules().get(at)).copied() {
                at += 1;
                match rule.action {
                    Action::Vmap(number) if maps.insert(number) => {
                        for (map, action) in self.elements_of(number, wanted)? {
                            self.follow(&map, action, wanted, &mut to_read);
                        }
                    }
                    action if wanted.chains.is_some() => self.follow(&from, action, wanted, &mut to_read),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn follow(&mut self, from: &str, action: Action, wanted: &Wanted<'_>, to_read: &mut Vec<ChainId>) {
        let (Action::Jump(to) | Action::Goto(to)) = action else { return };
        // What is there is read, or will be.
        let unread = self.contents.rules.get(to).filter(|chain| !chain.is_there);
        let Some(name) = unread.map(|chain| chain.name().to_owned()) else { return };
        if wanted.chains.is_some() && (wanted.follow)(from, &name) {
            // The kernel lets nobody jump to what is not there.
            self.contents.rules.define(&name, None);
            to_read.push(to);
        }
    }

    fn all_chains(&mut self) -> Result<Vec<ChainId>, Error> {
        let (contents, table) = (&mut self.contents, self.table);
        let (mut ids, mut are_too_many) = (Vec::new(), false);
        let answer = self.netlink.ask(&Question::Chains(self.family), &mut |message| {
            are_too_many |= ids.len() >= MOST_CHAINS;
            if are_too_many {
                return Ok(());
            }
            if let Some(chain) = Chain::read(message)?.filter(|chain| chain.table == table) {
                ids.push(contents.add_chain(&chain)?);
            }
            Ok(())
        })?;
        // A table that takes the place of another is there twice for a moment.
        self.is_torn |= answer == Answer::Torn || self.contents.rules.chains().count() != ids.len();
        if are_too_many { Err(self.too_large()) } else { Ok(ids) }
    }

    /// Those of these chains that there are.
    fn chains(&mut self, names: &[&str]) -> Result<Vec<ChainId>, Error> {
        let mut ids = Vec::new();
        for name in names {
            let contents = &mut self.contents;
            let asked = self.netlink.ask(&Question::Chain(self.family, self.table, name), &mut |message| {
                if let Some(chain) = Chain::read(message)? {
                    ids.push(contents.add_chain(&chain)?);
                }
                Ok(())
            });
            self.is_torn |= optional(asked)? == Some(Answer::Torn);
        }
        Ok(ids)
    }

    fn rules_of(&mut self, id: ChainId) -> Result<(), Error> {
        let name = self.contents.rules.get(id).map(|chain| chain.name().to_owned()).unwrap_or_default();
        let (contents, rules) = (&mut self.contents, &mut self.rules);
        let question = Question::Rules(self.family, self.table, &name);
        let answer = self.netlink.ask(&question, &mut |message| {
            // A kernel that gave more than was asked for would be told twice.
            if let Some(rule) = RuleMessage::read(message)?.filter(|rule| rule.chain == name) {
                *rules += 1;
                if *rules <= MOST_RULES {
                    rule.push(id, contents)?;
                }
            }
            Ok(())
        })?;
        self.is_torn |= answer == Answer::Torn;
        if self.rules > MOST_RULES { Err(self.too_large()) } else { Ok(()) }
    }

    /// The elements of a map, with its name, unless they are not wanted.
    fn elements_of(&mut self, number: u32, wanted: &Wanted<'_>) -> Result<Vec<(String, Action)>, Error> {
        let Some(map) = self.contents.map(number).filter(|map| (wanted.maps)(map)) else { return Ok(Vec::new()) };
        let (name, contents, rules) = (map.name().to_owned(), &mut self.contents, &mut self.rules);
        let answer = self.netlink.ask(&Question::Elements(self.family, self.table, &name), &mut |message| {
            if let Some(elements) = Elements::read(message)? {
                *rules += elements.count();
                if *rules <= MOST_RULES {
                    elements.push(contents)?;
                }
            }
            Ok(())
        })?;
        self.is_torn |= answer == Answer::Torn;
        if self.rules > MOST_RULES {
            return Err(self.too_large());
        }
        let map = self.contents.map(number);
        Ok(map.into_iter().flat_map(|map| &map.elements).map(|element| (name.clone(), element.action)).collect())
    }

    fn too_large(&self) -> Error {
        let table = printable(self.table);
        Error::Failed(format!("table {table} of nf_tables has more than {MOST_CHAINS} chains or {MOST_RULES} rules"))
    }
}
