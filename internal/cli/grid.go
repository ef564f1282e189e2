package cli

import (
	"strings"
	"unicode/utf8"
)

// grid is a table with a line of headings.
type grid struct {
	head  []string
	right []bool // the columns that are aligned on the right
	rows  [][]string
}

// longWord is the length from which on a word may be broken where there is no room for it.
const longWord = 24

// lines lays a table out. Where the width has a bound, the widest columns are made narrower and their text is
// wrapped; where even that does not fit, every row is a list of labels and values.
func (g *grid) lines(width int) []string {
	widths, least := make([]int, len(g.head)), make([]int, len(g.head))
	for i, h := range g.head {
		widths[i], least[i] = utf8.RuneCountInString(h), longest(h)
		for _, row := range g.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
			least[i] = max(least[i], min(longest(row[i]), longWord))
		}
		if widths[i] > 2*longWord {
			least[i] = max(least[i], longWord) // sentences in a narrow column are no pleasure to read
		}
	}
	if width > 0 && !shrink(widths, least, width) {
		return g.list(width)
	}
	lines := g.row(nil, g.head, widths)
	for _, row := range g.rows {
		lines = g.row(lines, row, widths)
	}
	return lines
}

// shrink makes the widest columns narrower until all fit, and tells whether they do. No column gets narrower than its
// least.
func shrink(widths, least []int, width int) bool {
	total := 2 * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	for ; total > width; total-- {
		widest := -1
		for i, w := range widths {
			if w > least[i] && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return false
		}
		widths[widest]--
	}
	return true
}

// row adds the lines of one row.
func (g *grid) row(lines, cells []string, widths []int) []string {
	wrapped := make([][]string, len(cells))
	height := 1
	for i, c := range cells {
		wrapped[i] = wrap(c, widths[i])
		height = max(height, len(wrapped[i]))
	}
	for n := range height {
		var b strings.Builder
		for i := range cells {
			text := ""
			if n < len(wrapped[i]) {
				text = wrapped[i][n]
			}
			if i > 0 {
				b.WriteString("  ")
			}
			b.WriteString(pad(text, widths[i], g.right[i]))
		}
		lines = append(lines, strings.TrimRight(b.String(), " "))
	}
	return lines
}

// list lays the rows out one below the other.
func (g *grid) list(width int) (lines []string) {
	labels := 0
	for _, h := range g.head {
		labels = max(labels, utf8.RuneCountInString(h))
	}
	for i, row := range g.rows {
		if i > 0 {
			lines = append(lines, "")
		}
		for c, text := range row {
			if text == "" {
				continue
			}
			for n, part := range wrap(text, max(width-labels-2, 10)) {
				head := g.head[c]
				if n > 0 {
					head = ""
				}
				lines = append(lines, pad(head, labels, false)+"  "+part)
			}
		}
	}
	return lines
}

func pad(text string, width int, right bool) string {
	space := strings.Repeat(" ", max(width-utf8.RuneCountInString(text), 0))
	if right {
		return space + text
	}
	return text + space
}

// longest is the length of the longest part of a text that [wrap] would not break by itself.
func longest(text string) int {
	most, since := 0, 0
	for _, r := range text {
		if r == ' ' {
			since = 0
			continue
		}
		since++
		most = max(most, since)
		if r == '/' {
			since = 0
		}
	}
	return most
}

// wrap breaks text into lines of at most width characters: at line breaks, at spaces, after slashes, and where there is
// none of them, where it must. 0 means that the width has no bound.
func wrap(text string, width int) (lines []string) {
	for line := range strings.SplitSeq(text, "\n") {
		rest := []rune(line)
		for width > 0 && len(rest) > width {
			at := width
			for at > 0 && rest[at] != ' ' && rest[at-1] != '/' {
				at--
			}
			if at == 0 {
				at = width
			}
			lines = append(lines, strings.TrimRight(string(rest[:at]), " "))
			for rest = rest[at:]; len(rest) > 0 && rest[0] == ' '; rest = rest[1:] {
			}
		}
		if len(rest) > 0 || line == "" {
			lines = append(lines, string(rest))
		}
	}
	return lines
}
