package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/operations"
)

// action is what can be done with a follower.
type action struct {
	name        string
	label       string
	destroys    bool // it needs the right to reset, not to operate
	needsParked bool // it is about parked events
	// describe returns what it will do, or refuses it.
	describe func(h *handler, ctx context.Context, t target) (string, error)
	do       func(h *handler, ctx context.Context, t target) error
	done     string // what the page of the follower says after it
}

// target is what an action is about.
type target struct {
	follower string
	leader   string // of a parked event, or ""
	position int64  // of a parked event, or 0
	actor    string
}

// describes returns what an action does, in words that depend on nothing but its
// target.
func describes(text string) func(*handler, context.Context, target) (string, error) {
	return func(_ *handler, _ context.Context, t target) (string, error) {
		return fmt.Sprintf(text, t.follower), nil
	}
}

var actions = []action{
	{name: "sync", label: "Synchronise now", do: (*handler).sync, done: "The follower has processed what there was.",
		describe: describes("%s processes what it has not processed yet, in this process, as the command sync_followers does. Its handlers run.")},
	{name: "dry-run", label: "Dry run", do: (*handler).dryRun, done: "The dry run has succeeded and was rolled back.",
		describe: describes("%s processes what it has not processed yet, and everything in the database is then rolled back. What its handlers do " +
			"outside of the database is really done.")},
	{name: "pause", label: "Pause", do: (*handler).pause, done: "The follower is paused.",
		describe: describes("%s processes nothing more, in every process, until it is resumed. A batch that is being processed ends first.")},
	{name: "resume", label: "Resume", do: (*handler).resume, done: "The follower goes on.",
		describe: describes("%s goes on from its position, in every process that runs it.")},
	{name: "retry", label: "Retry parked events", needsParked: true, do: (*handler).retry, done: "The parked events were processed.",
		describe: describes("%s processes its parked events, oldest first. One that fails again stays parked, and so do the later ones of its aggregate.")},
	{name: "discard", label: "Discard", destroys: true, needsParked: true, do: (*handler).discard, done: "The parked event was discarded.",
		describe: (*handler).describeDiscard},
	{name: "reset", label: "Reset", destroys: true, do: (*handler).reset, done: "The follower was reset.", describe: (*handler).describeReset},
}

func actionOf(name string) (action, error) {
	for _, a := range actions {
		if a.name == name {
			return a, nil
		}
	}
	return action{}, refuse(http.StatusNotFound, "There is no such action.")
}

// actionChoice is an action that a page offers.
type actionChoice struct {
	Name     string `json:"name"`
	Label    string `json:"label"`
	Destroys bool   `json:"destroys"`
}

// choices returns the actions that the page of a follower offers: those that
// the sender may do and that would change something. A parked event is
// discarded from its own row.
func (h *handler) choices(rights Rights, states []followerRow, hasParked bool) []actionChoice {
	// What is not known of a state is offered.
	isPaused := func(f followerRow) bool { return !f.PausedAt.IsZero() || f.ReadError != "" }
	isNotPaused := func(f followerRow) bool { return f.PausedAt.IsZero() || f.ReadError != "" }
	useless := map[string]bool{
		"discard": true,
		"pause":   !slices.ContainsFunc(states, isNotPaused),
		"resume":  !slices.ContainsFunc(states, isPaused),
	}
	all := []actionChoice{}
	for _, a := range actions {
		if h.allowed(a, rights) == nil && !useless[a.name] && (hasParked || !a.needsParked) {
			all = append(all, actionChoice{a.name, a.label, a.destroys})
		}
	}
	return all
}

// allowed returns why an action is refused, or nil.
func (h *handler) allowed(a action, rights Rights) error {
	switch {
	case !h.config.Actions:
		return refuse(http.StatusForbidden, "These pages are read-only.")
	case a.destroys && !rights.Reset:
		return refuse(http.StatusForbidden, "This action needs the right to reset, which you do not have.")
	case !a.destroys && !rights.Operate:
		return refuse(http.StatusForbidden, "This action needs the right to operate, which you do not have.")
	}
	return nil
}

// target reads what an action is about. It must be a follower of the system.
func (h *handler) target(r *http.Request, values url.Values, rights Rights) (t target, err error) {
	t = target{follower: r.PathValue("follower"), leader: values.Get("leader"), actor: rights.Actor}
	if _, err := operations.Followed(h.runner, t.follower, nil); err != nil {
		return t, err
	}
	if t.leader != "" {
		if _, err := operations.Followed(h.runner, t.follower, []string{t.leader}); err != nil {
			return t, refuse(http.StatusNotFound, "The follower does not follow this application.")
		}
	}
	if text := values.Get("position"); text != "" {
		if t.position, err = strconv.ParseInt(text, 10, 64); err != nil || t.position < 1 {
			return t, refuse(http.StatusBadRequest, "position must be a whole number from 1.")
		}
	}
	return t, nil
}

// confirmData is the page that says what an action will do. A destructive one
// wants the name of the follower typed.
type confirmData struct {
	Follower    string `json:"follower"`
	Action      string `json:"action"`
	Label       string `json:"label"`
	Description string `json:"description"`
	Destroys    bool   `json:"destroys"`
	Leader      string `json:"leader,omitempty"`
	Position    int64  `json:"position,omitempty"`
}

func (h *handler) confirm(ctx context.Context, r *http.Request, rights Rights) (any, error) {
	a, err := actionOf(r.PathValue("action"))
	if err == nil {
		err = h.allowed(a, rights)
	}
	if err != nil {
		return nil, err
	}
	t, err := h.target(r, r.URL.Query(), rights)
	if err != nil {
		return nil, err
	}
	text, err := a.describe(h, ctx, t)
	return confirmData{t.follower, a.name, a.label, text, a.destroys, t.leader, t.position}, err
}

// longestForm is how large the form of an action may be.
const longestForm = 4 << 10

// act does an action and logs who did it, or tried.
func (h *handler) act(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), h.actionTimeout())
	defer cancel()
	rights, err := h.authorize(r)
	var a action
	if err == nil {
		a, err = actionOf(r.PathValue("action"))
	}
	if err == nil {
		err = h.allowed(a, rights)
	}
	if err != nil {
		t := target{follower: r.PathValue("follower"), actor: rights.Actor}
		h.logAction(ctx, r.PathValue("action"), t, "refused", err)
		h.refuseAction(w, r, rights, h.pageErrorOf(r, err))
		return
	}
	if err := h.perform(ctx, w, r, a, rights); err != nil {
		h.refuseAction(w, r, rights, h.actionErrorOf(r, err))
		return
	}
	redirect(w, base(r.URL.EscapedPath())+"followers/"+url.PathEscape(r.PathValue("follower"))+"?done="+a.name)
}

// actionTimeout is how long an action may take.
func (h *handler) actionTimeout() time.Duration { return 30 * h.config.Timeout }

func (h *handler) refuseAction(w http.ResponseWriter, r *http.Request, rights Rights, why *pageError) {
	h.write(w, r, view{Title: "Action", Base: base(r.URL.EscapedPath()), Rights: rights, Acts: h.config.Actions, Error: why,
		Back: "followers/" + url.PathEscape(r.PathValue("follower"))})
}

// refuseOrigin refuses an action that another site has sent.
func (h *handler) refuseOrigin(w http.ResponseWriter, r *http.Request) {
	h.config.Logger.WarnContext(r.Context(), "admin: an action of another origin was refused", "path", r.URL.Path,
		"origin", r.Header.Get("Origin"))
	h.refuseAction(w, r, Rights{}, &pageError{http.StatusForbidden, "This action was sent by another site, and was not done."})
}

func (h *handler) perform(ctx context.Context, w http.ResponseWriter, r *http.Request, a action, rights Rights) error {
	r.Body = http.MaxBytesReader(w, r.Body, longestForm)
	if err := r.ParseForm(); err != nil {
		return refuse(http.StatusBadRequest, "The form cannot be read.")
	}
	t, err := h.target(r, r.PostForm, rights)
	if err != nil {
		return err
	}
	if a.destroys && r.PostForm.Get("confirm") != t.follower {
		return refuse(http.StatusBadRequest, "Type the name of the follower to confirm.")
	}
	err = a.do(h, ctx, t)
	outcome := "done"
	if err != nil {
		outcome = "failed"
	}
	h.logAction(ctx, a.name, t, outcome, err)
	return err
}

func (h *handler) logAction(ctx context.Context, action string, t target, outcome string, err error) {
	h.config.Logger.InfoContext(ctx, "admin: action", "action", action, "actor", t.actor, "follower", t.follower,
		"leader", t.leader, "notification", t.position, "outcome", outcome, "error", err)
}

// actionErrorOf is pageErrorOf for an action. What the operator asked for is refused or
// has failed for a reason that the operator has to know.
func (h *handler) actionErrorOf(r *http.Request, err error) *pageError {
	if _, known := errors.AsType[*pageError](err); known {
		return h.pageErrorOf(r, err)
	}
	if _, unknown := errors.AsType[*operations.UnknownFollowersError](err); unknown {
		return h.pageErrorOf(r, err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return &pageError{http.StatusGatewayTimeout, fmt.Sprintf("The action did not end within %v. What was committed until then is kept.",
			h.actionTimeout())}
	}
	return &pageError{http.StatusConflict, valid(strings.TrimSpace(fmt.Sprint(err)))}
}

func (h *handler) sync(ctx context.Context, t target) error { return h.synchronise(ctx, t, false) }

func (h *handler) dryRun(ctx context.Context, t target) error { return h.synchronise(ctx, t, true) }

func (h *handler) synchronise(ctx context.Context, t target, dryRun bool) error {
	report, err := operations.SyncFollowers(ctx, h.runner,
		operations.SyncOptions{Followers: []string{t.follower}, DryRun: dryRun, Grace: h.config.Timeout}, operations.SyncObserver{})
	for _, f := range report.Followers {
		err = errors.Join(err, f.Err)
	}
	return err
}

func (h *handler) pause(ctx context.Context, t target) error {
	return operations.Pause(ctx, h.runner, operations.PauseOptions{Follower: t.follower, By: t.actor})
}

func (h *handler) resume(ctx context.Context, t target) error {
	return operations.Resume(ctx, h.runner, operations.PauseOptions{Follower: t.follower})
}

func (h *handler) retry(ctx context.Context, t target) error {
	_, err := operations.RetryParked(ctx, h.runner, t.follower)
	return err
}

func (h *handler) discard(ctx context.Context, t target) error {
	if t.leader == "" || t.position == 0 {
		return errNoParkedEvent
	}
	return operations.DiscardParked(ctx, h.runner, t.discardOptions())
}

func (t target) discardOptions() operations.DiscardOptions {
	return operations.DiscardOptions{Follower: t.follower, Leader: t.leader, NotificationID: t.position, By: t.actor}
}

var errNoParkedEvent = refuse(http.StatusBadRequest, "Choose a parked event of the follower.")

func (h *handler) describeDiscard(ctx context.Context, t target) (string, error) {
	if t.leader == "" || t.position == 0 {
		return "", errNoParkedEvent
	}
	event, err := operations.PlanDiscard(ctx, h.runner, t.discardOptions())
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s will never process event %d of %s (%s, version %d of %s), which is parked. Later events of the same aggregate "+
		"stay parked until they are retried. This cannot be undone.", t.follower, t.position, t.leader, valid(event.Topic),
		event.OriginatorVersion, event.OriginatorID), nil
}

func (h *handler) describeReset(ctx context.Context, t target) (string, error) {
	plan, err := operations.PlanRebuild(ctx, h.runner, t.follower)
	if err != nil {
		return "", err
	}
	made := "What it made of the events stays, because it was declared to be replayable."
	if plan.Clears {
		made = "What it made of the events is cleared."
	}
	events := fmt.Sprintf("%d events", plan.Events)
	if plan.Events == 1 {
		events = "1 event"
	}
	return fmt.Sprintf("%s forgets its position in %s and its parked events. %s Then it processes at most %s again, at once if a process runs it. "+
		"This cannot be undone.", t.follower, strings.Join(plan.Leaders, ", "), made, events), nil
}

func (h *handler) reset(ctx context.Context, t target) error {
	return operations.Rebuild(ctx, h.runner, t.follower)
}
