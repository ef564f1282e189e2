package backup

// Limit is the bound in place of [MostBytes].
func (f *Function) Limit(n int64) { f.most = n }
