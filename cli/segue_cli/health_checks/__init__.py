"""Whether what Segue needs is there. Looking changes nothing."""
