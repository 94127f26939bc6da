package health

// Report is what the handlers answer.
type Report = report
