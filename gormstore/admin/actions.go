package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/operations"
)

// action is what can be done with a follower.
type action struct {
	name    string
	label   string
	destroy bool // it needs the right to reset, not to operate
	parked  bool // it is about parked events
	// says tells what it will do.
	says func(h *Handler, ctx context.Context, t target) (string, error)
	do   func(h *Handler, ctx context.Context, t target) error
}

// target is what an action is about.
type target struct {
	follower string
	leader   string // of a parked event
	position int64  // of a parked event
	actor    string
}

// says is what an action does, in words that depend on nothing but its target.
func says(text string) func(*Handler, context.Context, target) (string, error) {
	return func(_ *Handler, _ context.Context, t target) (string, error) {
		return fmt.Sprintf(text, t.follower), nil
	}
}

var actions = []action{
	{name: "sync", label: "Synchronise now", says: says("%s processes what it has not processed yet, in this process, as the command " +
		"sync_followers does. Its handlers run."), do: (*Handler).sync},
	{name: "dry-run", label: "Dry run", says: says("%s processes what it has not processed yet, and everything in the database is then " +
		"rolled back. What its handlers do outside of the database is really done."), do: (*Handler).dryRun},
	{name: "pause", label: "Pause", says: says("%s processes nothing more, in every process, until it is resumed. A batch that is being " +
		"processed ends first."), do: (*Handler).pause},
	{name: "resume", label: "Resume", says: says("%s goes on from its position, in every process that runs it."), do: (*Handler).resume},
	{name: "retry", label: "Retry parked events", parked: true, says: says("%s processes its parked events, oldest first. One that fails " +
		"again stays parked, and so do the later ones of its aggregate."), do: (*Handler).retry},
	{name: "discard", label: "Discard", destroy: true, parked: true, says: (*Handler).saysDiscard, do: (*Handler).discard},
	{name: "reset", label: "Reset", destroy: true, says: (*Handler).saysReset, do: (*Handler).reset},
}

// done is what the page of a follower says after an action.
var done = map[string]string{
	"sync": "The follower has processed what there was.", "dry-run": "The dry run has succeeded and was rolled back.",
	"pause": "The follower is paused.", "resume": "The follower goes on.", "retry": "The parked events were processed.",
	"discard": "The parked event was discarded.", "reset": "The follower was reset.",
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
	Name  string `json:"name"`
	Label string `json:"label"`
}

// choices returns the actions that a page offers. A parked event is discarded
// from its own row.
func (h *Handler) choices(rights Rights, hasParked bool) []actionChoice {
	all := []actionChoice{}
	for _, a := range actions {
		if h.allowed(a, rights) == nil && a.name != "discard" && (hasParked || !a.parked) {
			all = append(all, actionChoice{a.name, a.label})
		}
	}
	return all
}

// allowed returns why an action is refused, or nil.
func (h *Handler) allowed(a action, rights Rights) error {
	switch {
	case !h.config.Actions:
		return refuse(http.StatusForbidden, "These pages are read-only.")
	case a.destroy && !rights.Reset:
		return refuse(http.StatusForbidden, "This action needs the right to reset, which you do not have.")
	case !a.destroy && !rights.Operate:
		return refuse(http.StatusForbidden, "This action needs the right to operate, which you do not have.")
	}
	return nil
}

// target reads what an action is about. It must be a follower of the system.
func (h *Handler) target(r *http.Request, values url.Values, rights Rights) (t target, err error) {
	t = target{follower: r.PathValue("follower"), leader: values.Get("leader"), actor: rights.Actor}
	if _, err := operations.Followed(h.runner, t.follower, nil); err != nil {
		return t, err
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
	Follower string `json:"follower"`
	Action   string `json:"action"`
	Label    string `json:"label"`
	Says     string `json:"says"`
	Destroys bool   `json:"destroys"`
	Leader   string `json:"leader,omitempty"`
	Position int64  `json:"position,omitempty"`
}

func (h *Handler) confirm(ctx context.Context, r *http.Request, rights Rights) (any, error) {
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
	text, err := a.says(h, ctx, t)
	return confirmData{t.follower, a.name, a.label, text, a.destroy, t.leader, t.position}, err
}

// longestForm is how large the form of an action may be.
const longestForm = 4 << 10

// act does an action and logs who did it.
func (h *Handler) act(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 30*h.config.Timeout)
	defer cancel()
	r.Body = http.MaxBytesReader(w, r.Body, longestForm)
	rights, err := h.authorize(r)
	var a action
	if err == nil {
		a, err = actionOf(r.PathValue("action"))
	}
	if err == nil {
		err = h.allowed(a, rights)
	}
	if err == nil {
		err = h.perform(ctx, r, a, rights)
	}
	if err != nil {
		h.write(w, r, view{Title: "Action", Base: base(r.URL.EscapedPath()), Rights: rights, Acts: h.config.Actions,
			Fault: h.actionFault(r, err)})
		return
	}
	redirect(w, base(r.URL.EscapedPath())+"followers/"+url.PathEscape(r.PathValue("follower"))+"?done="+a.name)
}

func (h *Handler) perform(ctx context.Context, r *http.Request, a action, rights Rights) error {
	if err := r.ParseForm(); err != nil {
		return refuse(http.StatusBadRequest, "The form cannot be read.")
	}
	t, err := h.target(r, r.PostForm, rights)
	if err != nil {
		return err
	}
	if a.destroy && r.PostForm.Get("confirm") != t.follower {
		return refuse(http.StatusBadRequest, "Type the name of the follower to confirm.")
	}
	err = a.do(h, ctx, t)
	outcome := "done"
	if err != nil {
		outcome = "failed"
	}
	h.config.Logger.InfoContext(ctx, "admin: action", "action", a.name, "actor", t.actor, "follower", t.follower,
		"leader", t.leader, "notification", t.position, "outcome", outcome, "error", err)
	return err
}

// actionFault is fault for an action. What the operator asked for is refused or
// has failed for a reason that the operator has to know.
func (h *Handler) actionFault(r *http.Request, err error) *problem {
	if _, known := errors.AsType[*problem](err); known || errors.Is(err, context.DeadlineExceeded) {
		return h.fault(r, err)
	}
	if _, unknown := errors.AsType[*operations.UnknownFollowersError](err); unknown {
		return h.fault(r, err)
	}
	return &problem{http.StatusConflict, valid(strings.TrimSpace(fmt.Sprint(err)))}
}

func (h *Handler) sync(ctx context.Context, t target) error { return h.synchronise(ctx, t, false) }

func (h *Handler) dryRun(ctx context.Context, t target) error { return h.synchronise(ctx, t, true) }

func (h *Handler) synchronise(ctx context.Context, t target, dryRun bool) error {
	report, err := operations.SyncFollowers(ctx, h.runner,
		operations.SyncOptions{Followers: []string{t.follower}, DryRun: dryRun}, operations.SyncObserver{})
	for _, f := range report.Followers {
		err = errors.Join(err, f.Err)
	}
	return err
}

func (h *Handler) pause(ctx context.Context, t target) error {
	return operations.Pause(ctx, h.runner, operations.PauseOptions{Follower: t.follower, By: t.actor})
}

func (h *Handler) resume(ctx context.Context, t target) error {
	return operations.Resume(ctx, h.runner, operations.PauseOptions{Follower: t.follower})
}

func (h *Handler) retry(ctx context.Context, t target) error {
	_, err := operations.RetryParked(ctx, h.runner, t.follower)
	return err
}

func (h *Handler) discard(ctx context.Context, t target) error {
	return operations.DiscardParked(ctx, h.runner, t.follower, t.leader, t.position)
}

func (h *Handler) saysDiscard(_ context.Context, t target) (string, error) {
	if t.leader == "" || t.position == 0 {
		return "", refuse(http.StatusBadRequest, "Choose a parked event of the follower.")
	}
	return fmt.Sprintf("%s will never process event %d of %s, which is parked. Later events of the same aggregate stay parked until "+
		"they are retried. This cannot be undone.", t.follower, t.position, t.leader), nil
}

func (h *Handler) saysReset(ctx context.Context, t target) (string, error) {
	plan, err := operations.PlanReset(ctx, h.runner, operations.ResetOptions{Follower: t.follower})
	if refused, ok := errors.AsType[*operations.ResetError](err); ok {
		return "", refuse(http.StatusConflict, "%s", refused.Problem)
	}
	if err != nil {
		return "", err
	}
	report := plan.Report()
	count := "an unknown number of events"
	if report.Notifications >= 0 {
		count = fmt.Sprintf("%d events", report.Notifications)
	}
	return fmt.Sprintf("%s forgets its positions in %s and what it has parked, and clears what it has made if it says how. It will process "+
		"%s again. This cannot be undone.", t.follower, strings.Join(report.UpstreamApps, ", "), count), nil
}

func (h *Handler) reset(ctx context.Context, t target) error {
	_, err := operations.ResetFollower(ctx, h.runner, operations.ResetOptions{Follower: t.follower})
	return err
}
