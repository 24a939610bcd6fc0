//! A provider that takes time, and what it said: each answer is kept, and asked for anew by the
//! thread `secrets`, so that a reload neither waits for it nor fails while it is away.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::base::limits;
use crate::base::sorted::SortedMap;
use crate::net::stop::Stop;
use crate::secrets::answer::Answer;
use crate::secrets::command::{self, CommandSpec};
use crate::secrets::vault::{Vault, VaultSpec};

enum Provider {
    Command(CommandSpec, Stop),
    Vault(Box<Vault>),
}

pub struct Slow {
    provider: Provider,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    answers: SortedMap<String, Said>,
    /// It could not say anything at this time.
    trouble: Option<(Instant, String)>,
}

struct Said {
    answer: Answer,
    /// Somebody wants to know what it says now.
    is_stale: bool,
    /// The last load that wanted it.
    load: u64,
}

impl Slow {
    pub fn command(spec: CommandSpec, stop: Stop) -> Slow {
        Slow {
            provider: Provider::Command(spec, stop),
            kept: Mutex::default(),
        }
    }

    pub fn vault(spec: VaultSpec, stop: Stop) -> Slow {
        Slow {
            provider: Provider::Vault(Box::new(Vault::new(spec, stop))),
            kept: Mutex::default(),
        }
    }

    pub fn is_command(&self, spec: &CommandSpec) -> bool {
        matches!(&self.provider, Provider::Command(own, _) if own == spec)
    }

    pub fn is_vault(&self, spec: &VaultSpec) -> bool {
        matches!(&self.provider, Provider::Vault(vault) if vault.spec() == spec)
    }

    pub fn label(&self) -> String {
        match &self.provider {
            Provider::Command(spec, _) => spec.label(),
            Provider::Vault(vault) => vault.spec().label(),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it said, or says now. One that is in trouble is left alone for a while: many secrets
    /// must not wait for it one after the other.
    pub fn get(&self, name: &str, load: u64) -> Answer {
        {
            let mut kept = self.kept();
            let resting = kept.resting();
            if let Some(said) = kept.answers.get_mut(name) {
                said.load = load;
                if !said.is_stale || resting.is_some() {
                    return said.answer.clone();
                }
            }
            if let Some(why) = resting {
                let answer = Answer::Away(why);
                kept.keep(name, answer.clone(), load);
                return answer;
            }
        }
        let answer = self.ask(name);
        self.kept().take(name, answer, load).0
    }

    /// Asks again for all that was wanted lately. True when something is different.
    pub fn refresh(&self, load: u64) -> bool {
        let names: Vec<String> = {
            let mut kept = self.kept();
            kept.trouble = None;
            let is_wanted = |said: &Said| said.load + limits::SECRET_LOADS_KEPT >= load;
            kept.answers.retain(|_, said| is_wanted(said));
            kept.answers.keys().cloned().collect()
        };
        let mut changed = false;
        for name in names {
            let answer = self.ask(&name);
            let is_away = matches!(answer, Answer::Away(_));
            let load = self
                .kept()
                .answers
                .get(&name)
                .map_or(load, |said| said.load);
            changed |= self.kept().take(&name, answer, load).1;
            if is_away {
                // The others would wait for the same.
                break;
            }
        }
        changed
    }

    /// The next `get` of each name asks.
    pub fn doubt(&self) {
        let mut kept = self.kept();
        kept.trouble = None;
        kept.answers
            .values_mut()
            .for_each(|said| said.is_stale = true);
    }

    fn ask(&self, name: &str) -> Answer {
        match &self.provider {
            Provider::Command(spec, stop) => command::ask(spec, name, stop),
            Provider::Vault(vault) => vault.ask(name),
        }
    }
}

impl Kept {
    fn resting(&self) -> Option<String> {
        let (since, why) = self.trouble.as_ref()?;
        (since.elapsed() < limits::SECRET_REST).then(|| why.clone())
    }

    fn keep(&mut self, name: &str, answer: Answer, load: u64) {
        let said = Said {
            answer,
            is_stale: false,
            load,
        };
        self.answers.insert(name.to_owned(), said);
    }

    /// What counts now, and whether that is something else than before. What was found once holds
    /// while nobody can be asked.
    fn take(&mut self, name: &str, answer: Answer, load: u64) -> (Answer, bool) {
        let before = self.answers.get(name).map(|said| said.answer.clone());
        if let Answer::Away(why) = &answer {
            self.trouble = Some((Instant::now(), why.clone()));
        }
        if let (Some(why), Some(found @ Answer::Found(_))) = (answer.trouble(), &before) {
            log::warn!("secret kept as it was name={name} because=\"{why}\"");
            self.keep(name, found.clone(), load);
            return (found.clone(), false);
        }
        let is_same = match (&before, &answer) {
            (Some(before), answer) => {
                before == answer || before.trouble().is_some() && answer.trouble().is_some()
            }
            (None, _) => true,
        };
        self.keep(name, answer.clone(), load);
        (answer, !is_same)
    }
}
