//! The methods that a client may send, as a closed set.

use crate::wire::members::Members;
use crate::wire::message::FROM_CLIENT;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    Initialize,
    Ping,
    ToolsList,
    ToolsCall,
    PromptsList,
    PromptsGet,
    ResourcesList,
    ResourcesTemplatesList,
    ResourcesRead,
    ResourcesSubscribe,
    ResourcesUnsubscribe,
    Complete,
    SetLevel,
    TasksGet,
    /// 2025-11-25 only.
    TasksResult,
    TasksCancel,
    /// 2025-11-25 only.
    TasksList,
    /// Extension of 2026-07-28 only.
    TasksUpdate,
}

impl Method {
    pub const ALL: [Method; 18] = [
        Method::Initialize,
        Method::Ping,
        Method::ToolsList,
        Method::ToolsCall,
        Method::PromptsList,
        Method::PromptsGet,
        Method::ResourcesList,
        Method::ResourcesTemplatesList,
        Method::ResourcesRead,
        Method::ResourcesSubscribe,
        Method::ResourcesUnsubscribe,
        Method::Complete,
        Method::SetLevel,
        Method::TasksGet,
        Method::TasksResult,
        Method::TasksCancel,
        Method::TasksList,
        Method::TasksUpdate,
    ];

    /// `None` for a method that neither era relays or answers under this name.
    pub fn parse(name: &str) -> Option<Method> {
        Some(match name {
            "initialize" => Method::Initialize,
            "ping" => Method::Ping,
            "tools/list" => Method::ToolsList,
            "tools/call" => Method::ToolsCall,
            "prompts/list" => Method::PromptsList,
            "prompts/get" => Method::PromptsGet,
            "resources/list" => Method::ResourcesList,
            "resources/templates/list" => Method::ResourcesTemplatesList,
            "resources/read" => Method::ResourcesRead,
            "resources/subscribe" => Method::ResourcesSubscribe,
            "resources/unsubscribe" => Method::ResourcesUnsubscribe,
            "completion/complete" => Method::Complete,
            "logging/setLevel" => Method::SetLevel,
            "tasks/get" => Method::TasksGet,
            "tasks/result" => Method::TasksResult,
            "tasks/cancel" => Method::TasksCancel,
            "tasks/list" => Method::TasksList,
            "tasks/update" => Method::TasksUpdate,
            _ => return None,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Method::Initialize => "initialize",
            Method::Ping => "ping",
            Method::ToolsList => "tools/list",
            Method::ToolsCall => "tools/call",
            Method::PromptsList => "prompts/list",
            Method::PromptsGet => "prompts/get",
            Method::ResourcesList => "resources/list",
            Method::ResourcesTemplatesList => "resources/templates/list",
            Method::ResourcesRead => "resources/read",
            Method::ResourcesSubscribe => "resources/subscribe",
            Method::ResourcesUnsubscribe => "resources/unsubscribe",
            Method::Complete => "completion/complete",
            Method::SetLevel => "logging/setLevel",
            Method::TasksGet => "tasks/get",
            Method::TasksResult => "tasks/result",
            Method::TasksCancel => "tasks/cancel",
            Method::TasksList => "tasks/list",
            Method::TasksUpdate => "tasks/update",
        }
    }
}

/// Questions that a server may ask its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    Sampling,
    Elicitation,
    Roots,
}

impl Ask {
    pub fn parse(name: &str) -> Option<Ask> {
        Some(match name {
            "sampling/createMessage" => Ask::Sampling,
            "elicitation/create" => Ask::Elicitation,
            "roots/list" => Ask::Roots,
            _ => return None,
        })
    }

    pub fn method(self) -> &'static str {
        match self {
            Ask::Sampling => "sampling/createMessage",
            Ask::Elicitation => "elicitation/create",
            Ask::Roots => "roots/list",
        }
    }
}

/// A set of questions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Asks(u8);

impl Asks {
    pub const NONE: Asks = Asks(0);

    /// Those that a client declares in its capabilities, which are raw JSON.
    pub fn declared(capabilities: &str) -> Asks {
        let Ok(members) = Members::parse(capabilities, 1, FROM_CLIENT) else {
            return Asks::NONE;
        };
        let keys = [
            (Ask::Sampling, "sampling"),
            (Ask::Elicitation, "elicitation"),
            (Ask::Roots, "roots"),
        ];
        let is_able = |key| members.get(key).is_some_and(|raw| raw.starts_with('{'));
        let able = keys.into_iter().filter(|(_, key)| is_able(key));
        able.fold(Asks::NONE, |asks, (ask, _)| asks.with(ask))
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn from_bits(bits: u8) -> Asks {
        Asks(bits)
    }

    pub fn bits(self) -> u8 {
        self.0
    }

    pub fn with(self, ask: Ask) -> Asks {
        Asks(self.0 | 1 << ask as u8)
    }

    pub fn meets(self, other: Asks) -> bool {
        self.0 & other.0 != 0
    }
}

/// Stateless era.
pub const DISCOVER: &str = "server/discover";
pub const LISTEN: &str = "subscriptions/listen";
pub const LISTENING: &str = "notifications/subscriptions/acknowledged";

pub const INITIALIZED: &str = "notifications/initialized";
pub const CANCELLED: &str = "notifications/cancelled";
pub const PROGRESS: &str = "notifications/progress";
pub const MESSAGE: &str = "notifications/message";
pub const RESOURCE_UPDATED: &str = "notifications/resources/updated";
pub const ROOTS_CHANGED: &str = "notifications/roots/list_changed";
/// Extension of 2026-07-28.
pub const TASK_CHANGED: &str = "notifications/tasks";
/// 2025-11-25.
pub const TASK_STATUS: &str = "notifications/tasks/status";
pub const ELICITATION_COMPLETE: &str = "notifications/elicitation/complete";

#[cfg(test)]
mod tests {
    use super::Method;

    #[test]
    fn methods_have_one_name() {
        for (place, method) in Method::ALL.into_iter().enumerate() {
            assert_eq!(Method::parse(method.as_str()), Some(method));
            assert_eq!(method as usize, place);
        }
    }
}
