"""The questions of the papers, each as a study: trained, measured, drawn and said in words by one command."""
