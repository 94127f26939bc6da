package application

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/eventsourcing-go/eventsourcing/cipher"
	"github.com/eventsourcing-go/eventsourcing/compressor"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/internal/environment"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"

	// The memory store is the default, so it has to be there.
	"github.com/eventsourcing-go/eventsourcing/persistence/jsontranscoder"
	_ "github.com/eventsourcing-go/eventsourcing/persistence/memory"
	"github.com/eventsourcing-go/eventsourcing/persistence/python"
	"github.com/eventsourcing-go/eventsourcing/telemetry"
)

// Option is a setting given in code. Options win over the environment.
type Option func(*config)

// WithStore has the application store its events there, for example in
// gormstore.New(db). The application does not close it. Without this option
// PERSISTENCE_MODULE decides.
func WithStore(store persistence.Factory) Option {
	return func(c *config) { c.factory, c.hasStore = store, true }
}

// WithEnv gives settings by the names that they have in the environment, before
// which they count. Giving a key twice replaces its value.
func WithEnv(settings map[string]string) Option {
	return func(c *config) { maps.Copy(c.given, settings) }
}

// WithLookup replaces os.LookupEnv, for settings kept elsewhere.
func WithLookup(lookup func(key string) (value string, ok bool)) Option {
	return func(c *config) { c.lookup = lookup }
}

// WithTranscoder replaces the JSON transcoder.
func WithTranscoder(t persistence.Transcoder) Option {
	return func(c *config) { c.transcoder = t }
}

// WithTranscodings adds transcodings to those of the JSON transcoder (UUIDs,
// times and decimals). It cannot be used together with WithTranscoder.
func WithTranscodings(transcodings ...jsontranscoder.Transcoding) Option {
	return func(c *config) { c.transcodings = append(c.transcodings, transcodings...) }
}

// WithCompressor makes states smaller before they are stored; nil means no
// compressor, whatever the environment says.
func WithCompressor(compressor persistence.Compressor) Option {
	return func(c *config) { c.compressor, c.hasCompressor = compressor, true }
}

// WithCipher encrypts states; nil means no cipher, whatever the environment
// says.
func WithCipher(cipher persistence.Cipher) Option {
	return func(c *config) { c.cipher, c.hasCipher = cipher, true }
}

// WithPythonLayout writes states as the Python library does, for a database
// that it reads as well: events, snapshots, and topics, which are the former
// names of definitions that are paths of Python classes. The states then carry
// no event id and no metadata. Saves on PostgreSQL exclude those of all
// applications in the table, and positions of followers are kept as the Python
// library keeps them, so that it may run the same follower at the same time.
//
// In the environment, TRANSCODER_TOPIC=eventsourcing.persistence:JSONTranscoder
// means the same, and so does PERSISTENCE_MODULE=eventsourcing_django.
// A CIPHER_KEY without a CIPHER_TOPIC then means the Python library's cipher.
func WithPythonLayout() Option {
	return func(c *config) { c.pythonLayout = true }
}

// WithFormerNames names what the application was called in the past. Encrypted
// states are bound to the name of the application that stored them, and those
// of a former name can only be read with this option.
//
// It does not move events: to rename an application, stop it, change
// application_name and upstream_application_name in all tables of this module,
// and start it under its new name. While the store has events under a former
// name the application does not work; every method says so.
func WithFormerNames(names ...string) Option {
	return func(c *config) { c.formerNames = append(c.formerNames, names...) }
}

// WithSnapshotting turns snapshots on. The intervals say after how many events
// of an aggregate one is taken, by the name of its definition; the name ""
// stands for all others. No intervals means that snapshots are taken only on
// demand.
func WithSnapshotting(intervals map[string]int) Option {
	return func(c *config) { c.intervals = maps.Clone(intervals); c.snapshotting = true }
}

// WithSnapshotsKept sets how many snapshots of an aggregate are kept: older
// ones are deleted when a new one is stored. 0 keeps all. The default is 2: the
// newest, and one to fall back to. The setting SNAPSHOTS_KEPT is the same in
// the environment.
func WithSnapshotsKept(n int) Option {
	return func(c *config) { c.snapshotsKept, c.hasSnapshotsKept = n, true }
}

// defaultSnapshotsKept is how many snapshots of an aggregate are kept if no
// setting says otherwise.
const defaultSnapshotsKept = 2

// WithDefinitions makes the events of definitions and logs known that the
// application has in its log without a repository for them, for example because
// a repository was dropped and its events stayed. It is also for the client of
// a remote log (remotelog.ClientConfig), which has no repositories. A
// follower does not need it for what it follows: events are decoded with the
// definitions of their leader.
func WithDefinitions(definitions ...domain.Schema) Option {
	return func(c *config) { c.definitions = append(c.definitions, definitions...) }
}

// WithLogger sets the logger for what cannot be returned as an error: snapshots
// that cannot be taken or read, and settings that it does not know. It never
// logs payloads or keys. The default is slog.Default().
func WithLogger(logger *slog.Logger) Option {
	return func(c *config) { c.logger = cmp.Or(logger, c.logger) }
}

// config collects options and then settings of the environment.
type config struct {
	name                      string
	given                     map[string]string
	lookup                    func(string) (string, bool)
	factory                   persistence.Factory
	hasStore                  bool
	transcoder                persistence.Transcoder
	transcodings              []jsontranscoder.Transcoding
	compressor                persistence.Compressor
	cipher                    persistence.Cipher
	hasCompressor, hasCipher  bool
	pythonLayout              bool
	formerNames               []string
	snapshotting, ownsFactory bool
	snapshottingGiven         bool // by WithSnapshotting
	intervals                 intervals
	intervalsShared           bool // they are settings of all applications
	snapshotsKept             int
	hasSnapshotsKept          bool
	cache                     cacheSettings
	definitions               []domain.Schema
	logger                    *slog.Logger
	observers                 []*telemetry.Observer
	environment               *environment.Environment
}

func newConfig(name string, options []Option) *config {
	c := &config{name: name, given: map[string]string{}, logger: slog.Default()}
	for _, option := range options {
		if option != nil {
			option(c)
		}
	}
	c.environment = environment.New(name, c.given, c.lookup)
	return c
}

// build makes the application, or reports all mistakes together.
func (c *config) build() (*Application, error) {
	misspelt := c.misspelt()
	a, err := c.make()
	if err != nil {
		for _, setting := range misspelt { // which may be the reason
			setting.Warn(c.logger, c.name)
		}
		return nil, err
	}
	if len(misspelt) > 0 {
		a.misspelt.Store(&misspelt)
	}
	return a, nil
}

func (c *config) make() (*Application, error) {
	err := errors.Join(
		persistence.ValidateName(c.name),
		c.checkFormerNames(),
		c.checkSpelling(),
		c.readTranscoder(), // and the layout, which readCipher needs
		c.readCompressor(),
		c.readCipher(),
		c.readSnapshotting(),
		c.readCache(),
	)
	if err = errors.Join(err, c.readStore(err == nil)); err != nil {
		return nil, fmt.Errorf("application %.40q: %w", c.name, err)
	}
	a, err := c.wire()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("application %q: %w", c.name, err), c.closeFactory())
	}
	return a, nil
}

// wire puts the parts together.
func (c *config) wire() (*Application, error) {
	a := &Application{
		name: c.name, environment: c.environment, logger: c.logger, observer: joined(c.observers, c.logger), factory: c.factory, ownsFactory: c.ownsFactory,
		capabilities: capability.Of(c.factory),
		intervals:    c.intervals, intervalsShared: c.intervalsShared, cache: c.cache, repositories: map[string][]*aggregates{},
		storesStates: c.storesStates(),
		former:       formerNames{names: c.formerNames},
	}
	a.mapper = mapper.New(mapper.Config{
		Application: c.name, Transcoder: c.transcoder, Compressor: c.compressor, Cipher: c.cipher, PythonLayout: c.pythonLayout,
		FormerNames: c.formerNames,
	})
	for _, definition := range c.definitions {
		if err := errors.Join(a.mapper.CheckNames(definition), a.mapper.Add(definition)); err != nil {
			return nil, err
		}
	}
	var err error
	makeRecorder := c.factory.ProcessRecorder
	if python := a.capabilities.Python; python != nil && c.pythonLayout {
		makeRecorder = python.PythonProcessRecorder
	}
	if a.recorder, err = makeRecorder(c.name); err != nil {
		return nil, err
	}
	a.recorderCapabilities = capability.OfRecorder(a.recorder)
	a.events = mapper.NewEventStore(a.mapper, a.recorder)
	if c.snapshotting {
		recorder, err := c.factory.SnapshotRecorder(c.name)
		if err != nil {
			return nil, err
		}
		a.snapshots = mapper.NewSnapshotStore(a.mapper, recorder).KeepNewest(c.snapshotsKept)
	}
	return a, nil
}

// storesStates names the setting that has states of aggregates stored or
// copied.
func (c *config) storesStates() string {
	keys := []string{"IS_SNAPSHOTTING_ENABLED", "SNAPSHOTTING_INTERVALS"}
	switch {
	case c.snapshottingGiven:
		return "application.WithSnapshotting"
	case !c.snapshotting:
		keys = []string{"AGGREGATE_CACHE_MAXSIZE"}
	}
	setting, _ := c.environment.Find(keys...)
	return setting.Key
}

func (c *config) checkFormerNames() error {
	var mistakes []error
	for _, name := range c.formerNames {
		mistakes = append(mistakes, persistence.ValidateName(name))
	}
	return errors.Join(mistakes...)
}

func (c *config) closeFactory() error {
	if !c.ownsFactory {
		return nil
	}
	return c.factory.Close()
}

// readStore opens the store. Where other settings are wrong it only looks
// whether there is such a store.
func (c *config) readStore(open bool) error {
	if c.hasStore {
		if isNilFactory(c.factory) {
			return errors.New("WithStore needs a store and was given nil")
		}
		return nil
	}
	module, ok, err := c.environment.Lookup("PERSISTENCE_MODULE")
	if err != nil {
		return err
	}
	if !open && (!ok || slices.Contains(environment.Modules(), module.Value)) {
		return nil
	}
	if !ok {
		c.warnOfMemory()
	}
	factory, err := environment.Open(c.environment, defaultModule)
	c.factory, c.ownsFactory = factory, err == nil
	return err
}

// warnOfMemory reports that events are kept in memory by default although the
// program has a database for them.
func (c *config) warnOfMemory() {
	given := map[string]string{"PERSISTENCE_MODULE": "gormstore"}
	if alias, ok := c.environment.Find("GORM_DB_ALIAS", "DJANGO_DB_ALIAS"); ok {
		given["GORM_DB_ALIAS"] = alias.Value
	}
	nothing := func(string) (string, bool) { return "", false }
	store, err := environment.Open(environment.New(c.name, given, nothing), defaultModule)
	if err != nil { // the module is not linked, or has no such database
		return
	}
	c.logger.Warn("events are kept in memory and lost at exit although a database is registered: "+
		"set PERSISTENCE_MODULE to gormstore, or to memory if it is meant", "application", c.name)
	if err := store.Close(); err != nil {
		c.logger.Warn("a store that is not used could not be closed", "application", c.name, "error", err)
	}
}

// defaultModule is the PERSISTENCE_MODULE if none is set.
const defaultModule = "memory"

// isNilFactory also recognises a nil pointer in the interface.
func isNilFactory(factory persistence.Factory) bool {
	return factory == nil || isNilPointer(factory)
}

func (c *config) readTranscoder() error {
	if err := c.readLayout(); err != nil {
		return err
	}
	if c.transcoder != nil {
		if len(c.transcodings) > 0 {
			return errors.New("WithTranscodings cannot be used together with WithTranscoder")
		}
		return nil
	}
	if c.pythonLayout {
		c.transcoder = python.NewTranscoder(c.transcodings...)
		return nil
	}
	c.transcoder = jsontranscoder.New(append(python.Transcodings(), c.transcodings...)...)
	return nil
}

func (c *config) readCompressor() error {
	if c.hasCompressor {
		return nil
	}
	setting, ok, err := c.environment.Lookup("COMPRESSOR_TOPIC")
	if err != nil || !ok {
		return err
	}
	made, err := newCompressor(setting)
	c.compressor = made
	return err
}

// newCompressor makes the compressor that a setting names.
func newCompressor(setting environment.Setting) (made persistence.Compressor, err error) {
	switch setting.Value {
	case "zlib", "eventsourcing.compressor:ZlibCompressor":
		made, err = compressor.NewZlib()
	case "zstd":
		made, err = compressor.NewZstd()
	default:
		problem := "is not a compressor; use zlib, zstd or eventsourcing.compressor:ZlibCompressor"
		if isPythonModule(setting.Value) {
			problem += "; for states of Python's module " + setting.Value + ", implement persistence.Compressor and give it by " +
				"application.WithCompressor"
		}
		err = setting.Wrong(problem)
	}
	return made, err
}

// readCipher makes the cipher. A key alone means that states are to be
// encrypted; a cipher without a key is an error, never a reason to store states
// in clear.
func (c *config) readCipher() error {
	if c.hasCipher {
		return nil
	}
	topic, hasTopic, wrongTopic := c.environment.Lookup("CIPHER_TOPIC")
	key, hasKey, wrongKey := c.readKey()
	if err := errors.Join(wrongTopic, wrongKey); err != nil || !hasTopic && !hasKey {
		return err
	}
	if !hasKey { // the value is not shown: it may be a key in the wrong place
		return topic.WrongSecret(errors.New("a cipher needs a key: set CIPHER_KEY or CIPHER_KEY_FILE"))
	}
	keys, err := cipher.ParseKeys(key.Value)
	if err != nil {
		return key.WrongSecret(err)
	}
	if !hasTopic && c.pythonLayout {
		c.cipher, err = newTransition(keys)
		return err
	}
	if !hasTopic {
		topic = environment.Setting{Key: "CIPHER_TOPIC", Value: "aes"}
	}
	c.cipher, err = newCipher(topic, keys)
	return err
}

// newCipher makes the cipher that a setting names, which the error does not
// repeat: it may be a key in the wrong place.
func newCipher(topic environment.Setting, keys []cipher.Key) (made persistence.Cipher, err error) {
	switch topic.Value {
	case "aes":
		made, err = cipher.NewAES(keys...)
	case "eventsourcing.cipher:AESCipher":
		made, err = cipher.NewPythonAES(keys...)
	default:
		err = topic.WrongSecret(errors.New("it is not a cipher; use aes or eventsourcing.cipher:AESCipher"))
	}
	return made, err
}

// readKey finds the key itself or the file that it is in, whichever is more
// specific.
func (c *config) readKey() (environment.Setting, bool, error) {
	setting, ok, err := c.environment.Lookup("CIPHER_KEY", "CIPHER_KEY_FILE")
	if err != nil || !ok || !strings.HasSuffix(setting.Key, "CIPHER_KEY_FILE") {
		return setting, ok, err
	}
	if _, err := cipher.ParseKeys(setting.Value); err == nil {
		return setting, false, setting.WrongSecret(errors.New("it is a key and not the name of a file; set CIPHER_KEY"))
	}
	content, err := os.ReadFile(setting.Value)
	if err != nil {
		return setting, false, setting.WrongSecret(withoutName(setting.Value, err))
	}
	return environment.Setting{Key: setting.Key, Value: strings.TrimSpace(string(content))}, true, nil
}

// withoutName is why a file could not be read, with as much of its name as
// exists: what was given as a file name may be half a key.
func withoutName(name string, err error) error {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		err = pathErr.Err
	}
	path, pathErr := filepath.Abs(name)
	if pathErr != nil {
		return err
	}
	existing := path
	for {
		_, statErr := os.Lstat(existing)
		if parent := filepath.Dir(existing); statErr != nil && parent != existing {
			existing = parent
			continue
		}
		break
	}
	if existing == path {
		return fmt.Errorf("%s: %w", path, err)
	}
	return fmt.Errorf("%w: of its path only %s exists; the rest is not shown, because it may be a key", err, existing)
}

// readSnapshotting turns snapshotting on by code, by itself, or by its
// intervals. As in Python, intervals in the environment do not count
// against IS_SNAPSHOTTING_ENABLED=n.
func (c *config) readSnapshotting() error {
	mistakes := []error{c.intervals.check()}
	c.snapshottingGiven = c.snapshotting
	if setting, ok := c.environment.Find("SNAPSHOTTING_INTERVALS"); ok && !c.snapshotting {
		var err error
		c.intervals, err = parseIntervals(setting)
		c.intervalsShared = setting.Key == "SNAPSHOTTING_INTERVALS"
		mistakes = append(mistakes, err)
	}
	if !c.hasSnapshotsKept {
		var err error
		c.snapshotsKept, err = c.environment.Int(defaultSnapshotsKept, 0, maxSnapshotsKept, "SNAPSHOTS_KEPT")
		mistakes = append(mistakes, err)
	} else if c.snapshotsKept < 0 {
		mistakes = append(mistakes, fmt.Errorf("application: WithSnapshotsKept(%d): give 0 to keep all, or more", c.snapshotsKept))
	}
	enabled, err := c.environment.Bool(len(c.intervals) > 0, "IS_SNAPSHOTTING_ENABLED")
	c.snapshotting = c.snapshotting || enabled
	return errors.Join(append(mistakes, err)...)
}

// maxSnapshotsKept is the largest SNAPSHOTS_KEPT.
const maxSnapshotsKept = 1_000_000

// known are the settings that an application and the stores of this module
// read.
var known = []string{
	"PERSISTENCE_MODULE", "STRICT_ORDER", "GORM_DB_ALIAS", "DJANGO_DB_ALIAS", "IS_SNAPSHOTTING_ENABLED", "SNAPSHOTTING_INTERVALS", "SNAPSHOTS_KEPT",
	"TRANSCODER_TOPIC", "COMPRESSOR_TOPIC", "CIPHER_TOPIC", "CIPHER_KEY", "CIPHER_KEY_FILE", "AGGREGATE_CACHE_MAXSIZE",
	"AGGREGATE_CACHE_FASTFORWARD", "AGGREGATE_CACHE_FASTFORWARD_SKIPPING", "DEEPCOPY_FROM_AGGREGATE_CACHE",
	"EVENTSOURCING_RUNNER",
}

// checkSpelling refuses given settings whose key is that of a setting but for
// case, blanks or punctuation, such as cipher_key: the program means them, and
// without effect they would leave events in clear or in memory.
func (c *config) checkSpelling() error {
	var mistakes []error
	for _, key := range c.environment.Given() {
		if right := spelt(key); right != key && slices.Contains(known, c.bare(right)) {
			setting := environment.Setting{Key: fmt.Sprintf("%.80q", key)}
			mistakes = append(mistakes, setting.Wrong("is not the name of a setting; write "+right))
		}
	}
	return errors.Join(mistakes...)
}

// spelt returns a key as settings are written.
func spelt(key string) string {
	// a prefix is written by the same rule, with an underscore after it
	prefix := environment.New(strings.TrimSpace(key), nil, nil).Prefix()
	return strings.TrimSuffix(prefix, "_")
}

// bare returns a key without the prefix of the application.
func (c *config) bare(key string) string { return strings.TrimPrefix(key, c.environment.Prefix()) }

// misspelt returns the settings that look like one of the framework's but are
// none: they have no effect, and a cipher that was meant to be on would be off.
func (c *config) misspelt() (found []bridge.Misspelling) {
	keys := c.environment.Given()
	if c.lookup == nil { // one that is given cannot be listed
		for _, variable := range os.Environ() {
			key, _, _ := strings.Cut(variable, "=")
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	for _, key := range slices.Compact(keys) {
		if right, ok := c.meant(key); ok {
			found = append(found, bridge.Misspelling{Key: key, Meant: right})
		}
	}
	return found
}

// takeMisspelt returns the misspelt settings at its first call, and then none.
func (a *Application) takeMisspelt() []bridge.Misspelling {
	if found := a.misspelt.Swap(nil); found != nil {
		return *found
	}
	return nil
}

// warnOfMisspelt warns of the misspelt settings, unless they have been taken:
// applications of one system share a misspelt setting, so system.New takes them
// and warns of each once.
func (a *Application) warnOfMisspelt() {
	if a.misspelt.Load() == nil {
		return
	}
	for _, setting := range a.takeMisspelt() {
		setting.Warn(a.logger, a.name)
	}
}

// meant returns the setting that a key without effect seems to mean.
func (c *config) meant(key string) (right string, ok bool) {
	if slices.Contains(known, c.bare(key)) {
		return "", false
	}
	key = spelt(key)
	bare := c.bare(key)
	if slices.Contains(known, bare) {
		return key, true
	}
	if right, ok := c.misspeltPrefix(key); ok {
		return right, true
	}
	suspect := strings.HasPrefix(bare, "CIPHER_") || strings.HasPrefix(bare, "SNAPSHOT")
	nearest, away := "", math.MaxInt
	for _, setting := range known {
		if !suspect && max(len(bare)-len(setting), len(setting)-len(bare)) > slip {
			continue // there may be hundreds of other variables
		}
		if d := distance(bare, setting); d < away {
			nearest, away = setting, d
		}
	}
	if away <= slip || suspect {
		return strings.TrimSuffix(key, bare) + nearest, true
	}
	return "", false
}

// slip is how many letters of a misspelt word are wrong at most.
const slip = 2

// misspeltPrefix recognises a setting whose prefix is nearly that of the
// application, or that of a former name, and returns the right key.
func (c *config) misspeltPrefix(key string) (right string, ok bool) {
	own := c.environment.Prefix()
	for _, name := range c.formerNames {
		former := environment.New(name, nil, nil).Prefix()
		if setting, found := strings.CutPrefix(key, former); found && slices.Contains(known, setting) {
			return own + setting, true
		}
	}
	for _, setting := range known {
		prefix, found := strings.CutSuffix(key, setting)
		if found && len(prefix) > 3 && prefix != own && strings.HasSuffix(prefix, "_") && distance(prefix, own) <= slip {
			return own + setting, true
		}
	}
	return "", false
}

// distance is how many letters have to be added, removed or replaced to get
// from one word to the other.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replaced := diagonal
			if a[i] != b[j] {
				replaced++
			}
			diagonal = row[j+1]
			row[j+1] = min(replaced, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
