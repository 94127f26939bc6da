package natsstore

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// SettingsError says that a stream or a server has settings with which events
// could be lost, or with which the store cannot work. It is an ErrOperational.
type SettingsError struct {
	// Name is the name of the stream or the server.
	Name string
	// Problems say which settings to change.
	Problems []string
}

func (e *SettingsError) Error() string {
	return fmt.Sprintf("natsstore: the settings of %s are refused: %s", e.Name, strings.Join(e.Problems, "; "))
}

// Unwrap makes the error an ErrOperational.
func (e *SettingsError) Unwrap() error { return persistence.ErrOperational }

// DamageError says that a replica of a stream lacks messages that were stored.
// Nothing was skipped. Compare the replicas with "nats stream info": give the
// leadership to an intact one, stop the damaged server, delete its folder of
// the stream, and start it, so that it copies the stream again. It is an
// ErrInternal.
type DamageError struct {
	// Stream is the name of the stream.
	Stream string
	// Leader is the server that leads the stream, and Replicas the others, if
	// they are known.
	Leader   string
	Replicas []string
	// From and To are the first and the last sequence that are missing, or 0.
	From, To int64
	// OriginatorID and Version are those of the event that is missing, or zero.
	OriginatorID uuid.UUID
	Version      int64
	// Problem says what was found.
	Problem string
}

func (e *DamageError) Error() string {
	what := e.Problem
	if e.From > 0 {
		what = fmt.Sprintf("sequences %d to %d are missing", e.From, e.To)
	}
	if e.From > 0 && e.Problem != "" {
		what += ", " + e.Problem
	}
	if e.OriginatorID != uuid.Nil {
		what += fmt.Sprintf(" (originator %s, version %d)", e.OriginatorID, e.Version)
	}
	servers := ""
	if e.Leader != "" {
		servers = fmt.Sprintf(" (leader %s, replicas %s)", e.Leader, strings.Join(e.Replicas, ", "))
	}
	return fmt.Sprintf("natsstore: the files of a replica of stream %s%s are damaged: %s; nothing was skipped; "+
		"let an intact replica lead the stream, delete the stream's folder on the damaged server and restart it", e.Stream, servers, what)
}

// Unwrap makes the error an ErrInternal.
func (e *DamageError) Unwrap() error { return persistence.ErrInternal }

// failure is an error of the class, about an operation of an application.
func (s *stream) failure(op string, class error, hint string, cause error) error {
	return &persistence.Error{Class: class, Op: s.application + ": " + op, Hint: hint, Err: cause}
}

func (s *Store) closedError(application, op string) error {
	return &persistence.Error{Class: persistence.ErrClosed, Op: application + ": " + op}
}

// contextError returns the error of an operation whose context has ended.
func contextError(application, op string, err error) error {
	return fmt.Errorf("%s: %s: %w", application, op, err)
}

// apiError is what a server answers in place of a result.
type apiError struct {
	Code        int    `json:"code"`
	ErrCode     int    `json:"err_code"`
	Description string `json:"description"`
}

func (e *apiError) Error() string { return fmt.Sprintf("nats: %s (%d)", e.Description, e.ErrCode) }

// The codes of API errors that mean something to this store.
const (
	codeStreamNotFound   = 10059
	codeMessageNotFound  = 10037
	codeWrongLastSeq     = 10071
	codeSubjectInFlight  = 10164
	codeNotReady         = 10163
	codeBatchIncomplete  = 10176
	codeBatchesInFlight  = 10210
	codeBatchTooLarge    = 10199
	codeAtomicDisabled   = 10174
	codeMaximumExceeded  = 10077
	codeInsufficient     = 10023
	codeMemoryExceeded   = 10028
	codeStorageExceeded  = 10047
	codeMessageTooLarge  = 10054
	codeStreamNotMatch   = 10060
	codeNotEnabled       = 10076
	codeNotEnabledForAcc = 10039
	codeStreamSealed     = 10109
)

// apiFailure returns the error for an answer that no repetition can change, or
// nil if the operation may be tried again.
func (s *stream) apiFailure(op string, err *apiError) error {
	class, hint := error(nil), ""
	switch err.ErrCode {
	case codeMaximumExceeded, codeInsufficient, codeMemoryExceeded, codeStorageExceeded:
		class, hint = persistence.ErrDiskFull, "nothing was stored; raise max_bytes of stream "+s.name+" or the limits of the servers and the account"
	case codeBatchTooLarge:
		class, hint = persistence.ErrNotSupported, "nothing was stored; raise jetstream limits max_batch_size of the servers, or save less at once"
	case codeAtomicDisabled:
		class, hint = persistence.ErrNotSupported, "set allow_atomic of stream "+s.name
	case codeMessageTooLarge:
		class, hint = persistence.ErrNotSupported, "nothing was stored; raise max_payload of the servers and max_msg_size of stream "+s.name
	case codeStreamNotFound, codeStreamNotMatch:
		class, hint = persistence.ErrNotMigrated, "stream "+s.name+" is missing; call natsstore.Create, or restore the stream"
	case codeNotEnabled, codeNotEnabledForAcc:
		class, hint = persistence.ErrNotSupported, "enable JetStream on the servers and for the account"
	case codeStreamSealed:
		class, hint = persistence.ErrReadOnly, "the stream is sealed"
	default:
		return nil
	}
	return s.failure(op, class, hint, err)
}

// permission returns the last error of the connection if it is a lack of
// rights, because the server says that to the connection and not to the call.
func (s *stream) permission(op string) error {
	err := s.store.conn.LastError()
	if errors.Is(err, nats.ErrPermissionViolation) && (strings.Contains(err.Error(), s.name) || strings.Contains(err.Error(), s.names.prefix)) {
		return s.failure(op, persistence.ErrOperational, "give the NATS user the right", err)
	}
	return nil
}
