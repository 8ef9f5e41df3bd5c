"""Every error that SmartStream raises on purpose.

    SmartStreamError
    ├── ConfigError            exit 2: the configuration or the command line
    │   ├── ConfigInvalid      a key or value in smartstream.yaml (file:line)
    │   ├── RuleInvalid        a rule that does not fit its table (file:line)
    │   └── ConfigMissing      no smartstream.yaml, or an unset secret reference
    ├── SourceError            the PostgreSQL side
    │   ├── SourceUnreachable  ├── SourceAuthFailed   ├── SourceGone (connection lost)
    │   ├── WalLevelTooLow     ├── MissingRight       ├── SourceVersionUnsupported
    │   ├── NoFreeSlot         ├── SlotInUse          ├── SlotLost
    │   ├── SlotAhead          ├── SourceRewound      ├── PublicationMissing
    │   ├── TableWithoutKey    ├── TableRewritten     ├── NoTables
    │   ├── DatabaseMissing    ├── SourceBusy         ├── SlotTwoPhase
    │   ├── SlotForeign        ├── SourceReplaced     ├── SourceDiverged
    │   ├── SourceReadOnly     ├── PublicationLost    ├── SourceStopping
    │   ├── PublicationUnfit   a publication of yours that sends too little
    │   ├── UpgradeUnfit       a cluster that is not the lake's, upgraded
    │   ├── CopyFailed         a snapshot copy fails for good
    │   ├── TablesClash        two tables that would have one name in the lake
    │   ├── ValueTooLarge      a row that PostgreSQL can't send
    │   └── ProtocolError      bytes that are not pgoutput
    ├── SchemaError            a change of a table that cannot be followed
    ├── LakeError              the lake side
    │   ├── LakeNotWritable    ├── DiskFull           ├── StoreUnavailable
    │   ├── RawCorrupt         ├── ManifestConflict   ├── CatalogUnavailable
    │   ├── CommitConflict     ├── TablesPaused       └── TableCorrupt
    ├── RuleError              rules while the pipeline runs
    │   ├── RulesBroken        the source changed a column that a rule needs
    │   ├── RuleStop           exit 3: a row breaks a rule that stops
    │   └── HookFailed         ├── RequestFailed (what a command asked of a pipeline)
    ├── QualityError           what a table has promised to its readers
    │   └── QualityStop        ├── SchemaFrozen       ├── ContractInvalid
    ├── AwsError               the stack on AWS
    │   ├── EventMalformed     ├── TerraformInvalid   ├── PriceUnknown
    │   ├── AwsUnavailable     ├── TableBusy          ├── DefinitionMissing
    │   ├── DefinitionChanged
    │   ├── TerraformUnusable  ├── StackMissing       ├── CredentialsUnusable
    │   ├── AwsRightMissing    ├── AwsRefused         ├── AwsTooSlow
    │   └── CaptureFailed      ├── AthenaFailed
    ├── QueryError             a question that ``sql`` or ``why`` can't answer
    │   ├── PastUnknown        ├── NotDurable (moments that the lake does not know)
    │   └── KeyNotFound        a row that never was
    ├── InferenceError         a model, its features or its run
    │   ├── ModelMissing       ├── ModelHashMismatch  ├── ModelNotAllowed
    │   ├── SignatureMismatch  ├── FeaturesInvalid    ├── ScheduleInvalid
    │   ├── ModelFailed        ├── ModelTimeout       ├── ModelOutOfMemory
    │   └── ModelUnavailable   ├── ModelBusy          ├── RunsFailed
    └── VerifyError            source and lake differ, or cannot be compared

A message says what, where and why; ``hint`` says what to do next.  ``retry``
tells the pipeline whether trying again can help.  Row values and secrets never
enter a message.
"""

from __future__ import annotations

# In the order of the drawing, which docs/errors.md follows.
# isort: off
from smartstream.errors.base import ExitCode, Retry, SmartStreamError
from smartstream.errors.config import ConfigError, ConfigInvalid, ConfigMissing, RuleInvalid
from smartstream.errors.source import (
    CopyFailed,
    DatabaseMissing,
    MissingRight,
    NoFreeSlot,
    NoTables,
    ProtocolError,
    PublicationLost,
    PublicationMissing,
    PublicationUnfit,
    SchemaError,
    SlotAhead,
    SlotForeign,
    SlotInUse,
    SlotLost,
    SlotTwoPhase,
    SourceAuthFailed,
    SourceBusy,
    SourceDiverged,
    SourceError,
    SourceGone,
    SourceReadOnly,
    SourceReplaced,
    SourceRewound,
    SourceStopping,
    SourceUnreachable,
    SourceVersionUnsupported,
    TableRewritten,
    TablesClash,
    TableWithoutKey,
    UpgradeUnfit,
    ValueTooLarge,
    WalLevelTooLow,
)
from smartstream.errors.lake import (
    CatalogUnavailable,
    CommitConflict,
    DiskFull,
    LakeError,
    LakeNotWritable,
    ManifestConflict,
    TablesPaused,
    RawCorrupt,
    StoreUnavailable,
    TableCorrupt,
)
from smartstream.errors.rules import (
    ContractInvalid,
    HookFailed,
    QualityError,
    QualityStop,
    RequestFailed,
    RuleError,
    RulesBroken,
    RuleStop,
    SchemaFrozen,
)
from smartstream.errors.aws import (
    AthenaFailed,
    AwsError,
    AwsRefused,
    AwsRightMissing,
    AwsTooSlow,
    AwsUnavailable,
    CaptureFailed,
    CredentialsUnusable,
    DefinitionChanged,
    DefinitionMissing,
    EventMalformed,
    PriceUnknown,
    StackMissing,
    TableBusy,
    TerraformInvalid,
    TerraformUnusable,
)
from smartstream.errors.query import KeyNotFound, NotDurable, PastUnknown, QueryError, VerifyError
from smartstream.errors.inference import (
    FeaturesInvalid,
    InferenceError,
    ModelBusy,
    ModelFailed,
    ModelHashMismatch,
    ModelMissing,
    ModelNotAllowed,
    ModelOutOfMemory,
    ModelTimeout,
    ModelUnavailable,
    RunsFailed,
    ScheduleInvalid,
    SignatureMismatch,
)
# isort: on

__all__ = [
    "AthenaFailed",
    "AwsError",
    "AwsRefused",
    "AwsRightMissing",
    "AwsTooSlow",
    "AwsUnavailable",
    "CaptureFailed",
    "CatalogUnavailable",
    "CommitConflict",
    "ConfigError",
    "ConfigInvalid",
    "ConfigMissing",
    "ContractInvalid",
    "CopyFailed",
    "CredentialsUnusable",
    "DatabaseMissing",
    "DefinitionChanged",
    "DefinitionMissing",
    "DiskFull",
    "EventMalformed",
    "ExitCode",
    "FeaturesInvalid",
    "HookFailed",
    "InferenceError",
    "KeyNotFound",
    "LakeError",
    "LakeNotWritable",
    "ManifestConflict",
    "MissingRight",
    "ModelBusy",
    "ModelFailed",
    "ModelHashMismatch",
    "ModelMissing",
    "ModelNotAllowed",
    "ModelOutOfMemory",
    "ModelTimeout",
    "ModelUnavailable",
    "NoFreeSlot",
    "NoTables",
    "NotDurable",
    "PastUnknown",
    "PriceUnknown",
    "ProtocolError",
    "PublicationLost",
    "PublicationMissing",
    "PublicationUnfit",
    "QualityError",
    "QualityStop",
    "QueryError",
    "RawCorrupt",
    "RequestFailed",
    "Retry",
    "RuleError",
    "RuleInvalid",
    "RuleStop",
    "RulesBroken",
    "RunsFailed",
    "ScheduleInvalid",
    "SchemaError",
    "SchemaFrozen",
    "SignatureMismatch",
    "SlotAhead",
    "SlotForeign",
    "SlotInUse",
    "SlotLost",
    "SlotTwoPhase",
    "SmartStreamError",
    "SourceAuthFailed",
    "SourceBusy",
    "SourceDiverged",
    "SourceError",
    "SourceGone",
    "SourceReadOnly",
    "SourceReplaced",
    "SourceRewound",
    "SourceStopping",
    "SourceUnreachable",
    "SourceVersionUnsupported",
    "StackMissing",
    "StoreUnavailable",
    "TableBusy",
    "TableCorrupt",
    "TableRewritten",
    "TableWithoutKey",
    "TablesClash",
    "TablesPaused",
    "TerraformInvalid",
    "TerraformUnusable",
    "UpgradeUnfit",
    "ValueTooLarge",
    "VerifyError",
    "WalLevelTooLow",
]
