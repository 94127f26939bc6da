package application_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/cipher"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/environment"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/persistence/memory"
)

const pythonTranscoder = "eventsourcing.persistence:JSONTranscoder"

func init() {
	environment.Register("eventsourcing_django", func(*environment.Environment) (persistence.Factory, error) { return memory.New(), nil })
}

// The settings of a Django project choose the Python layout, and its cipher for
// a key without a topic.
func TestPythonSettings(t *testing.T) {
	key := expect.Must(cipher.ParseKeys(testKey))
	python := expect.Must(cipher.NewPythonAES(key...))
	inMemory := func() application.Option { return application.WithStore(memory.New()) }
	tests := map[string]struct {
		settings []string
		option   func() application.Option
		python   bool // the layout, and the cipher of a key alone
	}{
		"nothing":               {},
		"memory":                {settings: []string{"PERSISTENCE_MODULE", "memory"}},
		"module of Django":      {settings: []string{"PERSISTENCE_MODULE", "eventsourcing_django"}, python: true},
		"transcoder":            {settings: []string{"TRANSCODER_TOPIC", pythonTranscoder}, python: true},
		"transcoder of one":     {settings: []string{"TRAININGSCHOOL_TRANSCODER_TOPIC", pythonTranscoder}, python: true},
		"store in code":         {settings: []string{"PERSISTENCE_MODULE", "eventsourcing_django"}, option: inMemory},
		"store and transcoder":  {settings: []string{"TRANSCODER_TOPIC", pythonTranscoder}, option: inMemory, python: true},
		"option":                {option: application.WithPythonLayout, python: true},
		"transcoder of another": {settings: []string{"KENNELS_TRANSCODER_TOPIC", pythonTranscoder}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			state := func(settings ...string) []byte {
				options := []application.Option{env(append(settings, test.settings...)...)}
				if test.option != nil {
					options = append(options, test.option())
				}
				return storedState(t, options...)
			}
			plain := string(state())
			if got := strings.HasPrefix(plain, `{"timestamp":`); got != test.python {
				t.Errorf("got state %.40q, want the Python layout: %v", plain, test.python)
			}
			opened, err := python.Decrypt(nil, state("CIPHER_KEY", testKey), nil)
			if got := err == nil && strings.HasPrefix(string(opened), `{"timestamp":`); got != test.python {
				t.Errorf("got a state that Python's cipher opens: %v, want %v", got, test.python)
			}
		})
	}
}

// What this module encrypted with a key and no CIPHER_TOPIC is read when the
// same settings mean the Python library's cipher.
func TestPythonCipherReadsEnvelopes(t *testing.T) {
	store, ctx, id := memory.New(), t.Context(), uuid.New()
	open := func(settings ...string) *application.Repository[school.Dog] {
		app, err := application.New("School", application.WithStore(store), env(append(settings, "CIPHER_KEY", testKey)...))
		if err != nil {
			t.Fatal(err)
		}
		return expect.Must(application.NewRepository(app, school.Dogs))
	}
	if err := open().Save(ctx, school.Dogs.Create(id, school.Registered{Name: "Fido"})); err != nil {
		t.Fatal(err)
	}
	dog, err := open("TRANSCODER_TOPIC", pythonTranscoder).Get(ctx, id)
	if err != nil || dog.Name != "Fido" {
		t.Errorf("got %v, %v; want Fido", dog, err)
	}
	_, err = open("TRANSCODER_TOPIC", pythonTranscoder, "CIPHER_TOPIC", "eventsourcing.cipher:AESCipher").Get(ctx, id)
	if err == nil {
		t.Error("the Python cipher alone has opened an envelope, so this test shows nothing")
	}
	other := uuid.New()
	if err := open("TRANSCODER_TOPIC", pythonTranscoder).Save(ctx, school.Dogs.Create(other, school.Registered{Name: "Bella"})); err != nil {
		t.Fatal(err)
	}
	_, err = open().Get(ctx, other)
	if err == nil || !strings.Contains(err.Error(), "CIPHER_TOPIC=eventsourcing.cipher:AESCipher") {
		t.Errorf("got %v, want the setting that opens the state", err)
	}
}

// A definition that Python has no name for, and a field without the name that
// Python has, are mistakes that are found when the repository is made.
func TestPythonLayoutNeedsNames(t *testing.T) {
	app, err := application.New("School", application.WithStore(memory.New()), application.WithPythonLayout(), application.WithSnapshotting(nil))
	if err != nil {
		t.Fatal(err)
	}
	type opened struct {
		Owner string `json:"owner"`
	}
	_, err = application.NewRepository(app, domain.Define[untagged]("Kennel"))
	expect.ErrorAs[*invalid.Error](t, err)
	if !strings.Contains(err.Error(), "no name in Python") {
		t.Errorf("without a name of Python: %v, want an error that contains %q", err, "no name in Python")
	}
	_, err = application.NewRepository(app, domain.Define[untagged]("zoo.domain:Kennel"))
	expect.ErrorAs[*invalid.Error](t, err)
	if !strings.Contains(err.Error(), `untagged.Size cannot be stored: the Python layout needs the name that Python has; give the field a tag such as json:"size"`) {
		t.Errorf("without a tag: %v, want an error that contains %q", err, `untagged.Size cannot be stored: the Python layout needs the name that Python has; give the field a tag such as json:"size"`)
	}
	_, err = application.NewEventSourcedLog(app, domain.Define("Log", domain.Entry("Opened", opened{})), uuid.New())
	expect.ErrorAs[*invalid.Error](t, err)
	if _, err = application.NewRepository(app, school.Dogs); err != nil {
		t.Errorf("with both: %v", err)
	}
	for name, schema := range map[string]domain.Schema{
		"no name in Python": domain.Define[tagged]("Kennel"), `json:"size"`: domain.Define("zoo.domain:Kennel", domain.On("Grown", grown{})), "": school.Dogs,
	} {
		_, err := application.New("School", application.WithStore(memory.New()), application.WithPythonLayout(), application.WithDefinitions(schema))
		if (err == nil) != (name == "") || err != nil && !strings.Contains(err.Error(), name) {
			t.Errorf("without a repository: got %v, want %q", err, name)
		}
	}
}

type tagged struct {
	domain.Aggregate
	Size int `json:"size"`
}

type grown struct{ Size int }

func (grown) Apply(*tagged) {}

type untagged struct {
	domain.Aggregate
	Size int
}

// Before two layouts mix in one log the application warns, once.
func TestMixedLayoutsAreReported(t *testing.T) {
	for name, test := range map[string]struct {
		first, second []application.Option
		want          string
	}{
		"own after Python":    {first: []application.Option{application.WithPythonLayout()}, want: "its newest event is in the Python layout, and this application writes that of this module"},
		"Python after own":    {second: []application.Option{application.WithPythonLayout()}, want: "its newest event is in that of this module, and this application writes the Python layout"},
		"own after own":       {},
		"Python after Python": {first: []application.Option{application.WithPythonLayout()}, second: []application.Option{application.WithPythonLayout()}},
	} {
		t.Run(name, func(t *testing.T) {
			store, log := memory.New(), &logs{}
			open := func(options []application.Option) *application.Repository[school.Dog] {
				options = append(options, application.WithStore(store), application.WithLogger(log.logger()))
				return expect.Must(application.NewRepository(expect.Must(application.New("School", options...)), school.Dogs))
			}
			save := func(r *application.Repository[school.Dog]) {
				if err := r.Save(t.Context(), school.Dogs.Create(uuid.New(), school.Registered{Name: "Fido"})); err != nil {
					t.Fatal(err)
				}
			}
			save(open(test.first))
			log.want(t)
			second := open(test.second)
			save(second)
			save(second)
			if got := strings.Count(log.String(), "two layouts"); (got == 1) != (test.want != "") || !strings.Contains(log.String(), test.want) {
				t.Errorf("the log is %q, want %q once", log.String(), test.want)
			}
		})
	}
}

// Before an application stores what programs with the settings of the log cannot
// read, or in clear what they encrypt, it warns once, and names the setting.
func TestOtherSettingsAreReported(t *testing.T) {
	const nothing = ""
	encrypted, compressed := []string{"CIPHER_KEY", testKey}, []string{"COMPRESSOR_TOPIC", "zlib"}
	python := func(settings ...string) []string {
		return append([]string{"TRANSCODER_TOPIC", pythonTranscoder}, settings...)
	}
	for name, test := range map[string]struct {
		first, second []string
		want          string
	}{
		"no key":                          {first: encrypted, want: "set CIPHER_TOPIC=aes and CIPHER_KEY"},
		"no key, Python layout":           {first: python(encrypted...), second: python(), want: "CIPHER_TOPIC=eventsourcing.cipher:AESCipher"},
		"another key, Python layout":      {first: python(encrypted...), second: python("CIPHER_KEY", otherKey), want: "another CIPHER_KEY"},
		"a key that others lack":          {first: python(), second: python(encrypted...), want: "remove CIPHER_TOPIC and CIPHER_KEY"},
		"no compressor":                   {first: python(compressed...), second: python(), want: "set COMPRESSOR_TOPIC=zlib"},
		"a compressor that others lack":   {first: python(), second: python(compressed...), want: "remove COMPRESSOR_TOPIC"},
		"a compressor, own layout":        {second: compressed, want: nothing},
		"the same":                        {first: compressed, second: compressed, want: nothing},
		"the same key, Python layout":     {first: python(encrypted...), second: python(encrypted...), want: nothing},
		"the same of both, Python layout": {first: python(append(encrypted, compressed...)...), second: python(append(encrypted, compressed...)...)},
	} {
		t.Run(name, func(t *testing.T) {
			store, log := memory.New(), &logs{}
			open := func(settings []string) *application.Repository[school.Dog] {
				app := expect.Must(application.New("School", env(settings...), application.WithStore(store), application.WithLogger(log.logger())))
				return expect.Must(application.NewRepository(app, school.Dogs))
			}
			save := func(r *application.Repository[school.Dog]) {
				if err := r.Save(t.Context(), school.Dogs.Create(uuid.New(), school.Registered{Name: strings.Repeat("Fido", 50)})); err != nil {
					t.Fatal(err)
				}
			}
			save(open(test.first))
			log.want(t)
			second := open(test.second)
			save(second)
			save(second)
			if got := strings.Count(log.String(), "level=WARN"); (got == 1) != (test.want != nothing) || !strings.Contains(log.String(), test.want) {
				t.Errorf("the log is %q, want %q once", log.String(), test.want)
			}
			if strings.Contains(log.String(), "Fido") || strings.Contains(log.String(), testKey) {
				t.Errorf("the log has a payload or a key: %q", log.String())
			}
		})
	}
}
