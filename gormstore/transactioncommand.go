package gormstore

import "strings"

// transactionCommand is a statement that sets, releases or returns to a
// savepoint, or that ends the transaction.
type transactionCommand struct {
	kind commandKind
	name string // of the savepoint
	verb string // such as ROLLBACK
}

type commandKind int

const (
	otherCommand commandKind = iota
	setSavepoint
	releaseSavepoint
	returnToSavepoint
	endTransaction
)

// transactionCommands finds the commands in a query, which may have several
// statements, comments and names in quotes.
func transactionCommands(query string, isSQLite bool) (found []transactionCommand, statements int) {
	l := sqlLexer{text: query, sqlite: isSQLite}
	if !strings.Contains(query, ";") {
		first := l
		if w, _, _ := first.token(); !beginsCommand(w) {
			return nil, 1
		}
	}
	for {
		words, ended := l.statement()
		if len(words) > 0 {
			statements++
			if c := commandOf(words, isSQLite); c.kind != otherCommand {
				found = append(found, c)
			}
		}
		if ended {
			return found, statements
		}
	}
}

func beginsCommand(w sqlWord) bool {
	for _, verb := range []string{"SAVEPOINT", "RELEASE", "ROLLBACK", "COMMIT", "END", "ABORT", "PREPARE"} {
		if w.is(verb) {
			return true
		}
	}
	return false
}

// commandOf recognises a command by the first words of a statement.
func commandOf(words []sqlWord, isSQLite bool) transactionCommand {
	next := func(keywords ...string) bool {
		for _, k := range keywords {
			if len(words) > 0 && words[0].is(k) {
				words = words[1:]
				return true
			}
		}
		return false
	}
	named := func(kind commandKind) transactionCommand {
		if len(words) > 1 {
			next("SAVEPOINT")
		}
		if len(words) == 0 {
			return transactionCommand{} // the database refuses it
		}
		return transactionCommand{kind: kind, name: words[0].name(isSQLite)}
	}
	verb := strings.ToUpper(words[0].text)
	switch {
	case next("SAVEPOINT"):
		return named(setSavepoint)
	case next("RELEASE"):
		return named(releaseSavepoint)
	case next("ROLLBACK"):
		next("WORK", "TRANSACTION")
		if next("TO") {
			return named(returnToSavepoint)
		}
		return transactionCommand{kind: endTransaction, verb: verb}
	case next("COMMIT", "END", "ABORT"):
		return transactionCommand{kind: endTransaction, verb: verb}
	case next("PREPARE") && next("TRANSACTION"):
		return transactionCommand{kind: endTransaction, verb: "PREPARE TRANSACTION"}
	}
	return transactionCommand{}
}

// sqlWord is a keyword or a name.
type sqlWord struct {
	text   string // without quotes
	quoted bool
}

func (w sqlWord) is(keyword string) bool { return !w.quoted && strings.EqualFold(w.text, keyword) }

// name is the word as the database compares names of savepoints.
func (w sqlWord) name(isSQLite bool) string {
	if w.quoted && !isSQLite {
		return w.text
	}
	return strings.Map(func(r rune) rune { // both databases fold ASCII alone
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, w.text)
}

// firstWords is how many words of a statement can show what it is.
const firstWords = 6

// sqlLexer splits a text into statements.
type sqlLexer struct {
	text   string
	sqlite bool
}

// statement returns the first words of the next statement, and whether it is
// the last one. The body of a trigger or a function is part of its statement.
func (l *sqlLexer) statement() (words []sqlWord, ended bool) {
	const (
		outside    = iota
		definition // of something that may have a body
		body
	)
	state, begins := outside, true
	for {
		w, isWord, ok := l.token()
		switch {
		case !ok:
			return words, true
		case !isWord && w.text == ";":
			if state != body {
				return words, false
			}
			begins = true
			continue
		case !isWord:
			if len(words) == 0 {
				words = append(words, sqlWord{quoted: true}) // what begins like this is no command
			}
		case state == body && begins && w.is("END"):
			state = outside
		case state == definition && w.is("BEGIN"):
			state = body
		case state == outside && len(words) > 0 && words[0].is("CREATE") &&
			(w.is("TRIGGER") || w.is("FUNCTION") || w.is("PROCEDURE")):
			state = definition
		}
		begins = state == body && isWord && w.is("BEGIN")
		if isWord && len(words) < firstWords {
			words = append(words, w)
		}
	}
}

// token returns the next word or the next other character. It passes over
// blanks and comments, and over the text of strings that are no names.
func (l *sqlLexer) token() (w sqlWord, isWord, ok bool) {
	for l.text != "" {
		c := l.text[0]
		switch {
		case strings.HasPrefix(l.text, "--"):
			_, l.text, _ = strings.Cut(l.text, "\n")
		case strings.HasPrefix(l.text, "/*"):
			l.comment()
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v':
			l.text = l.text[1:]
		case c == '"' || c == '\'' || l.sqlite && c == '`':
			text := l.quoted(c, false)
			return sqlWord{text: text, quoted: true}, c != '\'' || l.sqlite, true
		case l.sqlite && c == '[':
			text, rest, _ := strings.Cut(l.text[1:], "]")
			l.text = rest
			return sqlWord{text: text, quoted: true}, true, true
		case !l.sqlite && c == '$' && l.dollarQuoted():
			return sqlWord{}, false, true
		case isWordByte(c):
			return l.word(), true, true
		default:
			l.text = l.text[1:]
			return sqlWord{text: string(c)}, false, true
		}
	}
	return sqlWord{}, false, false
}

func isWordByte(c byte) bool {
	return c == '_' || c == '$' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func (l *sqlLexer) word() sqlWord {
	n := 0
	for n < len(l.text) && isWordByte(l.text[n]) {
		n++
	}
	w := sqlWord{text: l.text[:n]}
	l.text = l.text[n:]
	if !l.sqlite && w.is("E") && strings.HasPrefix(l.text, "'") {
		l.quoted('\'', true)
	}
	return w
}

// quoted reads a text in quotes, in which two quotes are one.
func (l *sqlLexer) quoted(quote byte, backslashes bool) string {
	var text strings.Builder
	for i := 1; i < len(l.text); i++ {
		switch c := l.text[i]; {
		case backslashes && c == '\\':
			i++
		case c == quote && i+1 < len(l.text) && l.text[i+1] == quote:
			text.WriteByte(c)
			i++
		case c == quote:
			l.text = l.text[i+1:]
			return text.String()
		default:
			text.WriteByte(c)
		}
	}
	l.text = ""
	return text.String()
}

// comment passes over a comment. Those of PostgreSQL may be nested.
func (l *sqlLexer) comment() {
	depth := 0
	for l.text != "" {
		switch {
		case strings.HasPrefix(l.text, "/*") && (depth == 0 || !l.sqlite):
			depth++
			l.text = l.text[2:]
		case strings.HasPrefix(l.text, "*/"):
			depth--
			l.text = l.text[2:]
			if depth == 0 {
				return
			}
		default:
			l.text = l.text[1:]
		}
	}
}

// dollarQuoted passes over a text between $tag$ and $tag$. It returns false if
// there is none.
func (l *sqlLexer) dollarQuoted() bool {
	tag, _, ok := strings.Cut(l.text[1:], "$")
	if !ok || tag != "" && tag[0] >= '0' && tag[0] <= '9' || strings.ContainsFunc(tag, func(r rune) bool {
		return r < 0x80 && (r == '$' || !isWordByte(byte(r)))
	}) {
		return false
	}
	tag = "$" + tag + "$"
	_, l.text, _ = strings.Cut(l.text[len(tag):], tag)
	return true
}
